package daemon

import (
	"bytes"
	"log/slog"
	"net/netip"
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
