package host

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"fairlead/userspace/model"
)

// A Socket is an address on which a program of this host listens.
type Socket struct {
	Addr     netip.AddrPort // 0.0.0.0 is every IPv4 address, :: every address
	Protocol model.Protocol
}

// Clashes reports whether packets to addr could be the socket's. An addr of 0.0.0.0 or
// :: is every address of its family.
func (s Socket) Clashes(addr netip.Addr, first, last uint16, p model.Protocol) bool {
	at := s.Addr.Addr()
	return s.Protocol == p && s.Addr.Port() >= first && s.Addr.Port() <= last &&
		(at == addr || at == netip.IPv6Unspecified() || at.Is4() == addr.Is4() && (at.IsUnspecified() || addr.IsUnspecified()))
}

// Sockets returns the listening TCP sockets and the unconnected UDP sockets of
// the namespace.
func Sockets() ([]Socket, error) {
	var all []Socket
	for _, table := range []struct {
		file     string
		protocol model.Protocol
		state    string
	}{
		{"tcp", model.TCP, "0A"}, {"tcp6", model.TCP, "0A"}, // TCP_LISTEN
		{"udp", model.UDP, "07"}, {"udp6", model.UDP, "07"}, // TCP_CLOSE
	} {
		s, err := readSockets("/proc/thread-self/net/"+table.file, table.protocol, table.state)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list sockets: %w", err)
		}
		all = append(all, s...)
	}
	return all, nil
}

func readSockets(file string, p model.Protocol, state string) ([]Socket, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Socket
	lines := bufio.NewScanner(f)
	lines.Scan() // titles
	for lines.Scan() {
		fields := strings.Fields(lines.Text()) // number, local, remote, state
		if len(fields) < 4 || fields[3] != state {
			continue
		}
		addr, err := parseSocket(fields[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, Socket{addr, p})
	}
	return all, lines.Err()
}

// parseSocket reads "0100007F:0016": an address as words in the host's byte
// order, and a port. An IPv4 address inside IPv6 comes out as IPv4.
func parseSocket(s string) (netip.AddrPort, error) {
	hexAddr, hexPort, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(hexAddr)
	port, perr := strconv.ParseUint(hexPort, 16, 16)
	if !ok || err != nil || perr != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("read socket address %q", s)
	}
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("read socket address %q", s)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}
