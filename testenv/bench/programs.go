package main

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math/bits"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"

	"fairlead/testenv"
)

// XDP actions.
const (
	xdpTX       = 3
	xdpRedirect = 4
)

// loadPrograms loads programs of bpf/bench.c. Those maps of the datapath that
// are pinned in dir are used as they are; "" makes all of them anew.
func loadPrograms(tb testenv.TB, dir string, names ...string) *ebpf.Collection {
	tb.Helper()
	spec, err := loadBench()
	if err != nil {
		tb.Fatalf("read programs: %v", err)
	}
	all := spec.Programs
	spec.Programs = map[string]*ebpf.ProgramSpec{}
	for _, n := range names {
		spec.Programs[n] = all[n]
	}
	pinned := map[string]*ebpf.Map{}
	for name := range spec.Maps {
		if dir == "" || strings.HasPrefix(name, ".") {
			continue // variables are nobody else's
		}
		m, err := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			tb.Fatalf("open map %s: %v", name, err)
		}
		tb.Cleanup(func() { m.Close() })
		spec.Maps[name].MaxEntries = m.MaxEntries() // set at load, there
		pinned[name] = m
	}
	shift := uint32(65 - bits.Len32(spec.Maps[benchMapFlows].MaxEntries))
	if err := spec.Variables[benchVarFlowShift].Set(shift); err != nil {
		tb.Fatalf("set the size of the flow table: %v", err)
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: pinned})
	if err != nil {
		tb.Fatalf("load programs: %v", err)
	}
	tb.Cleanup(coll.Close)
	return coll
}

// set sets a variable of programs that are loaded.
func set(tb testenv.TB, c *ebpf.Collection, name string, value any) {
	tb.Helper()
	if err := c.Variables[name].Set(value); err != nil {
		tb.Fatalf("set %s: %v", name, err)
	}
}

// native32 and native16 return an address and a port as they are in a packet.
func native32(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

func native16(port uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, port))
}
