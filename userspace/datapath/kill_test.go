package datapath

import (
	"net/netip"
	"slices"
	"testing"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// putPairs puts a flow with both its entries, some that are over or do not count, and
// one of UDP into a bucket, which it returns.
func putPairs(t *testing.T, maps *loader.Maps, at moment, client, virtual, backend netip.Addr) loader.LBBucket {
	t.Helper()
	const answered, forward, reply = loader.LBFlowStateFLOW_ANSWERED, loader.LBFlowDirDIR_FORWARD, loader.LBFlowDirDIR_REPLY
	putEntries(t, maps, at,
		entry{100, 1000, at.era, forward, answered, 1},
		entry{100, 1000, at.era, reply, answered, 1}, // made that of the first below
		entry{100, 1000, at.era, forward, answered, 1},
		entry{100, 1000, at.era, forward, loader.LBFlowStateFLOW_CLOSED, 1},
		entry{1000, 100, at.era, forward, answered, 1}, // silent for too long
		entry{100, 1000, at.era, forward, answered, 2}, // gone
		entry{100, 1000, at.era, forward, answered, 1}, // made one of UDP below
	)
	var b loader.LBBucket
	if err := maps.Flows.Lookup(uint32(9), &b); err != nil {
		t.Fatal(err)
	}
	twin := &b.Places[1]
	twin.Key.Saddr, twin.Key.Sport, twin.Key.Daddr, twin.Key.Dport = be32(backend), be16(8080), be32(client), be16(1)
	twin.Saddr, twin.Sport, twin.Daddr, twin.Dport = be32(virtual), be16(80), be32(client), be16(1)
	b.Places[6].Key.Proto = model.UDP.Number()
	if err := maps.Flows.Put(uint32(9), b); err != nil {
		t.Fatal(err)
	}
	return b
}

// wantKilled compares the stamps of a bucket with those of before the first two entries
// and the one of UDP were killed.
func wantKilled(t *testing.T, maps *loader.Maps, before *loader.LBBucket) {
	t.Helper()
	var b loader.LBBucket
	if err := maps.Flows.Lookup(uint32(9), &b); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		want := before.Stamps[i]
		switch i {
		case 0, 1:
			want.Life = want.Life&7 | uint8(loader.LBFlowStateFLOW_RESET)<<3
		case 6:
			want.Era = uint8(loader.LBSpecialEraERA_FREE)
		}
		if b.Stamps[i] != want {
			t.Errorf("entry %d has %+v, want %+v", i, b.Stamps[i], want)
		}
	}
}

// TestKillEndsThoseThatAreMeant looks at what becomes of the entries.
func TestKillEndsThoseThatAreMeant(t *testing.T) {
	maps, at := oneService(t)
	client, virtual, backend := netip.MustParseAddr("10.1.1.2"), netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("10.2.0.2")
	before := putPairs(t, maps, at, client, virtual, backend)
	if n, err := Kill(maps, func(v *FlowView) bool {
		return v.Client == netip.AddrPortFrom(client, 1) && v.Backend.Addr() == backend && v.Virtual.Addr() == virtual && v.Service == "a"
	}); n != 1 || err != nil {
		t.Errorf("killed %d, %v, want the one of port 1", n, err)
	}
	if n, err := Kill(maps, func(v *FlowView) bool { return v.Protocol == model.UDP }); n != 1 || err != nil {
		t.Errorf("killed %d, %v, want the one of UDP", n, err)
	}
	wantKilled(t, maps, &before)
	var left []uint16
	if err := Flows(maps, func(v FlowView) bool {
		if v.State == "answered" {
			left = append(left, v.Client.Port())
		}
		return true
	}); err != nil || !slices.Equal(left, []uint16{3}) {
		t.Errorf("flows of ports %v go on, %v; want 3 alone", left, err)
	}
}
