package daemon

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"fairlead/loader"
	"fairlead/testenv"
)

// standbyMaps returns maps in which some standby flows fit.
func standbyMaps(t *testing.T, flows uint32) *loader.Maps {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 16, ValueSize: 4, MaxEntries: flows})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	maps := &loader.Maps{}
	maps.Standby = m
	return maps
}

func TestStandbyFlowsThatDoNotFit(t *testing.T) {
	testenv.RequireRoot(t)
	var log bytes.Buffer
	s := newStandby(slog.New(slog.NewTextHandler(&log, nil)))
	client := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(vip, port) }
	for port := range uint16(20) {
		s.change(client(port), client(53), true)
	}
	maps := standbyMaps(t, 4)
	if err := s.use(maps); err != nil {
		t.Errorf("too many flows: %v", err)
	}
	for port := range uint16(20) {
		s.change(client(port), client(53), false)
		s.change(client(100+port), client(53), true)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings, want one:\n%s", n, &log)
	}

	broken := standbyMaps(t, 4)
	broken.Standby.Close()
	if err := s.use(broken); err == nil || s.maps != maps {
		t.Errorf("maps that fail are in use: %v", err)
	}
}

// TestStandbyFlowsOfTheProcessBefore asks what becomes of flows that the maps have when
// an agent takes another one's place.
func TestStandbyFlowsOfTheProcessBefore(t *testing.T) {
	testenv.RequireRoot(t)
	maps := standbyMaps(t, 10)
	client := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(vip, port) }
	old := newStandby(slog.New(slog.DiscardHandler))
	if err := old.use(maps); err != nil {
		t.Fatal(err)
	}
	for port := range uint16(3) {
		old.change(client(port), client(53), true)
	}
	held := func() (ports []uint16) {
		var key [16]byte
		var value uint32
		for all := maps.Standby.Iterate(); all.Next(&key, &value); {
			ports = append(ports, binary.BigEndian.Uint16(key[8:]))
		}
		slices.Sort(ports)
		return ports
	}
	s := newStandby(slog.New(slog.DiscardHandler))
	s.inherits = true
	if err := s.use(maps); err != nil {
		t.Fatal(err)
	}
	if got := held(); !slices.Equal(got, []uint16{0, 1, 2}) {
		t.Errorf("before the flows have come: %v", got)
	}
	if err := s.settle([][2]netip.AddrPort{{client(1), client(53)}, {client(7), client(53)}}); err != nil {
		t.Fatal(err)
	}
	if got := held(); !slices.Equal(got, []uint16{1, 7}) {
		t.Errorf("after: %v", got)
	}
	if err := s.use(nil); err != nil {
		t.Fatal(err)
	}
	if err := s.use(maps); err != nil {
		t.Fatal(err)
	}
	if got := held(); !slices.Equal(got, []uint16{1, 7}) {
		t.Errorf("when XDP is back: %v", got)
	}
}
