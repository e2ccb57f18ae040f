package lbtest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/testenv"
)

// newDryWorld is a world in which each packet is run dry before it is run.
func newDryWorld(tb testing.TB, f family, fault uint32) *world {
	tb.Helper()
	w := newWorldOf(tb, f, fault)
	w.dry = w.Dry(tb, fault)
	return w
}

func newWorldOf(tb testing.TB, f family, fault uint32) *world {
	tb.Helper()
	switch f.program {
	case ipv6.program:
		return newWorld6(tb, fault)
	case first.program:
		return newWorldMixed(tb, fault)
	}
	return newWorld(tb, fault)
}

// rehearse runs the row's packet dry. It returns how that differs from what is
// wanted of the packet itself, and what it has changed.
func (w *world) rehearse(r row, want effect) string {
	w.tb.Helper()
	if w.dry == nil {
		return ""
	}
	w.settleConnections()
	if w.mixed {
		w.drawID()
	}
	before, random := w.everything(), w.random()
	action, out, egress, err := w.dry.runCut(r.frame, r.linear)
	w.must(err)
	w.must(w.SetRandom(random))
	after := w.everything()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if !bytes.Equal(before[name], after[name]) {
			return "the dry run changed " + name
		}
	}
	raced, err := w.Raced()
	w.must(err)
	if raced {
		return ""
	}
	told, err := w.dry.Told()
	w.must(err)
	want.Counters = nil
	got := effect{Action: action, Frame: hex.EncodeToString(out), Egress: egress}
	if loader.Verdict(told.Verdict) != r.want {
		return fmt.Sprintf("the dry run told %v, not %v", loader.Verdict(told.Verdict), r.want)
	}
	return cmp.Diff(want, got)
}

func (w *world) random() uint32 {
	w.tb.Helper()
	random, err := w.Random()
	w.must(err)
	return random
}

// everything is Dump, and what the agent was given.
func (w *world) everything() map[string][]byte {
	w.tb.Helper()
	all, err := w.Dump()
	w.must(err)
	held, told, err := w.Held()
	w.must(err)
	all["agent"] = fmt.Append(nil, held, told)
	return all
}

// TestDryRunsForetell runs the packet of every row dry first: nothing changes,
// and the packet's own run does what was told.
func TestDryRunsForetell(t *testing.T) {
	for _, table := range []struct {
		family family
		rows   []row
	}{{ipv4, append(rows(), dryRows()...)}, {ipv6, rows6()}, {first, mixedRows()}} {
		w := newDryWorld(t, table.family, 0)
		for _, r := range table.rows {
			t.Run(table.family.program+" "+r.name, func(t *testing.T) {
				testenv.PinThread(t)
				w.tb = t
				if diff := r.check(w); diff != "" {
					t.Errorf("dry run, or effect (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestEachFaultOfDryRunsIsFound(t *testing.T) {
	findEach(t, newDryWorld(t, ipv4, FaultsDry[0].N), FaultsDry, append(rows(), dryRows()...))
}

// dryRows are packets whose dry run must remember what it only pretends, or must
// not write where other rows' would change nothing.
func dryRows() []row {
	moved := row{want: loader.LBVerdictFORWARD_REDIRECT, frame: segment(client, web, syn),
		out: edit(toBackend(back1, syn), 0, 2, 2, 2, 2, 2, 2), egress: uplink, counts: made("2", 48)}
	from := crampedClient()
	return []row{
		moved.as("a flow that is made again takes the way of now", then(answered, backendReplaced, func(w *world) {
			r := Route{Result: RouteFound, Ifindex: uplink, Mtu: mtu, Dmac: [6]uint8{2, 2, 2, 2, 2, 2}}
			copy(r.Smac[:], testenv.MAC(router))
			w.must(w.SetRoute(back1.Addr(), r))
			w.put(loader.LBMapTurns, uint32(1), uint64(0))
		})),
		{name: "one place is not enough for two entries", given: cramped(from), frame: segment(from, web, syn), want: loader.LBVerdictDROP_TABLE_FULL},
		forwarded(ack).as("a check makes a missing twin again", then(answered, waits(now+1), func(w *world) {
			w.deleteFlow(tcp, back1, client)
			changed(w)
		})),
		forwarded(ack).as("a check gives both entries the time-out of now", then(answered, func(w *world) {
			w.control(func(c *loader.Control) { c.Epoch, c.Idle[loader.LBIdleIDLE_TCP_ESTABLISHED] = 2, 2*tcpOpen })
		})),
	}
}

// crampedClient returns a client whose flow to back1 has entries that share their first bucket.
func crampedClient() netip.AddrPort {
	from := client
	for sharedBucket(from) < 0 {
		from = netip.AddrPortFrom(from.Addr(), from.Port()+1)
	}
	return from
}

// sharedBucket returns the first bucket of both entries of a client's flow to back1, or -1.
func sharedBucket(from netip.AddrPort) int {
	forward, twin := spotOf(flowKey(tcp, from, web)), spotOf(flowKey(tcp, back1, from))
	if forward.first == twin.first {
		return int(forward.first)
	}
	return -1
}

// cramped leaves one place for the entries of a client's flow to back1.
func cramped(from netip.AddrPort) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.route(netip.AddrPortFrom(from.Addr(), 0), RouteFound, Ingress)
		for at := range uint32(buckets) {
			w.crowd(at, state(loader.LBFlowStateFLOW_ESTABLISHED, 10))
		}
		w.bucket(uint32(sharedBucket(from)), func(b *loader.LBBucket) { b.Stamps[3].Era = 0 })
	}
}
