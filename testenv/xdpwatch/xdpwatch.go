// Package xdpwatch counts what XDP loses after its verdict.
//
// A redirect verdict promises nothing: the frame is queued, handed to a device
// later, and may be refused there. The kernel tells only its tracepoints. A
// watch sums them for one network namespace, so that a test can assert that
// redirect verdicts = frames received at the far ends + what was lost.
package xdpwatch

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"fairlead/testenv"
)

// Counts are sums over all interfaces of the namespace.
type Counts struct {
	RedirectErrors uint64 // redirects refused at once
	Redirected     uint64 // frames that a device took
	RedirectDrops  uint64 // frames that a device refused: a full ring, no NAPI at the far end
	Transmitted    uint64 // as Redirected, for XDP_TX of veth
	TransmitDrops  uint64 // as RedirectDrops, for XDP_TX of veth
	Exceptions     uint64 // XDP_ABORTED, unknown verdicts, failed XDP_TX
}

// Lost returns the frames that were given a redirect or transmit verdict and
// went nowhere.
func (c Counts) Lost() uint64 { return c.RedirectErrors + c.RedirectDrops + c.TransmitDrops }

// Sub returns what was counted since before.
func (c Counts) Sub(before Counts) Counts {
	return Counts{
		RedirectErrors: c.RedirectErrors - before.RedirectErrors,
		Redirected:     c.Redirected - before.Redirected,
		RedirectDrops:  c.RedirectDrops - before.RedirectDrops,
		Transmitted:    c.Transmitted - before.Transmitted,
		TransmitDrops:  c.TransmitDrops - before.TransmitDrops,
		Exceptions:     c.Exceptions - before.Exceptions,
	}
}

// slot is an index into the map of counts.
type slot int32

const (
	redirectErrors slot = iota
	redirected
	redirectDrops
	transmitted
	transmitDrops
	exceptions
	slots
)

// A sum adds an argument of a tracepoint to a slot.
type sum struct {
	arg  int16 // one adds 1 instead
	slot slot
}

const one = -1

// tracepoints are what is watched. Argument 0 of each is the net_device that
// the frame came in by.
var tracepoints = []struct {
	name string
	sums []sum
}{
	{"xdp_redirect_err", []sum{{one, redirectErrors}}},
	{"xdp_exception", []sum{{one, exceptions}}},
	// (from_dev, to_dev, sent, drops, err)
	{"xdp_devmap_xmit", []sum{{2, redirected}, {3, redirectDrops}}},
	// (dev, sent, drops, err)
	{"xdp_bulk_tx", []sum{{1, transmitted}, {2, transmitDrops}}},
}

// A Watch counts until its test ends.
type Watch struct {
	tb     testenv.TB
	counts *ebpf.Map
}

// New starts to count for the namespace of h.
func New(tb testenv.TB, h *testenv.Host) *Watch {
	tb.Helper()
	ns, err := h.NetNS()
	if err != nil {
		tb.Fatalf("watch XDP: %v", err)
	}
	path, err := deviceToNetNS()
	if err != nil {
		tb.Fatalf("watch XDP: %v", err)
	}
	counts, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "xdpwatch", Type: ebpf.PerCPUArray,
		KeySize: 4, ValueSize: 8, MaxEntries: uint32(slots),
	})
	if err != nil {
		tb.Fatalf("make map of XDP counts: %v", err)
	}
	tb.Cleanup(func() { counts.Close() })
	for _, tp := range tracepoints {
		l, err := attach(tp.name, program(counts, path, ns, tp.sums))
		if err != nil {
			tb.Fatalf("watch XDP: %v", err)
		}
		tb.Cleanup(func() { l.Close() })
	}
	return &Watch{tb: tb, counts: counts}
}

// Counts returns what was counted so far. The kernel counts before the frames
// arrive at the far end.
func (w *Watch) Counts() Counts {
	w.tb.Helper()
	var n [slots]uint64
	for key := range n {
		var cpus []uint64
		if err := w.counts.Lookup(uint32(key), &cpus); err != nil {
			w.tb.Fatalf("read XDP counts: %v", err)
		}
		for _, v := range cpus {
			n[key] += v
		}
	}
	return Counts{
		RedirectErrors: n[redirectErrors],
		Redirected:     n[redirected],
		RedirectDrops:  n[redirectDrops],
		Transmitted:    n[transmitted],
		TransmitDrops:  n[transmitDrops],
		Exceptions:     n[exceptions],
	}
}

func attach(tracepoint string, insns asm.Instructions) (link.Link, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "xdpwatch", Type: ebpf.RawTracepoint, License: "GPL", Instructions: insns,
	})
	if err != nil {
		return nil, fmt.Errorf("load program for %s: %w", tracepoint, err)
	}
	defer prog.Close() // the link keeps it
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: prog})
	if err != nil {
		return nil, fmt.Errorf("attach to tracepoint %s: %w", tracepoint, err)
	}
	return l, nil
}
