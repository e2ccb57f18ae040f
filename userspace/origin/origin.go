// Package origin reads and writes the headers of the PROXY protocol, versions 1
// and 2, by which a proxy tells a server first whom a connection is of.
//
// It trusts everybody: who calls Read has found out that the peer may say so.
package origin

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

	"fairlead/userspace/model"
)

// Read reads the header that must come first on c, within a time, and not a byte
// more. It returns both ends of the connection that the peer forwards, which are
// not valid if it does not say, or c is its own. After an error, which says what is
// wrong with the header or that none has come, c is of no use.
func Read(c net.Conn, limit time.Duration) (client, server netip.AddrPort, err error) {
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return client, server, fmt.Errorf("bound PROXY header: %w", err)
	}
	text, err := take(c)
	if err != nil {
		return client, server, fmt.Errorf("read PROXY header: %w", err)
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(text)))
	if err != nil {
		return client, server, fmt.Errorf("read PROXY header: %w", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return client, server, fmt.Errorf("bound PROXY header: %w", err)
	}
	if h.Command.IsLocal() {
		return client, server, nil
	}
	return addrPort(h.SourceAddr), addrPort(h.DestinationAddr), nil
}

// The beginning of a binary header, and bounds of both kinds.
const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	maxText   = 107 // of a line, its end included
	maxBinary = 4096
)

// take reads as much as a header says that it has.
func take(c io.Reader) ([]byte, error) {
	b := make([]byte, len(signature), maxText) // no header is shorter
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	if string(b) == signature {
		b = append(b, 0, 0, 0, 0)
		if _, err := io.ReadFull(c, b[len(signature):]); err != nil {
			return nil, err
		}
		n := binary.BigEndian.Uint16(b[len(b)-2:])
		if n > maxBinary {
			return nil, errLong
		}
		b = append(b, make([]byte, n)...)
		_, err := io.ReadFull(c, b[len(b)-int(n):])
		return b, err
	}
	for b[len(b)-1] != '\n' {
		if len(b) == maxText {
			return nil, errLong
		}
		b = append(b, 0)
		if _, err := io.ReadFull(c, b[len(b)-1:]); err != nil { // what follows is not the header's
			return nil, err
		}
	}
	return b, nil
}

var errLong = errors.New("it is too long, or none")

// addrPort returns an address of TCP; what is none is not valid.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Header returns what tells a backend of a connection from client to server. Where
// these are of two families, IPv4 is written as IPv6.
func Header(v model.ProxyVersion, client, server netip.AddrPort) []byte {
	number, transport := byte(1), proxyproto.TCPv4
	if v == model.ProxyV2 {
		number = 2
	}
	if client.Addr().Is6() || server.Addr().Is6() {
		transport = proxyproto.TCPv6
		client, server = as6(client), as6(server)
	}
	h := proxyproto.Header{
		Version: number, Command: proxyproto.PROXY, TransportProtocol: transport,
		SourceAddr: net.TCPAddrFromAddrPort(client), DestinationAddr: net.TCPAddrFromAddrPort(server),
	}
	b, err := h.Format()
	if err != nil { // of no address that a connection has
		return []byte(v.OwnHeader())
	}
	return b
}

func as6(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
}
