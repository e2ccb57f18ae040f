package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"fairlead/userspace/model"
)

// natService is a full-NAT service, and what its backends are to see.
func natService(name string, port uint16, sources [][]netip.Addr) (Service, map[netip.Addr][]netip.Addr) {
	s := service(name, port, slices.Repeat([]int{1}, len(sources))...)
	s.Forward = model.ForwardFullNAT
	want := map[netip.Addr][]netip.Addr{}
	for i, list := range sources {
		want[s.Backends[i].Address.Addr()] = list
	}
	return s, want
}

// addrs returns n addresses, others for each net.
func addrs(net byte, n int) (list []netip.Addr) {
	for i := range n {
		list = append(list, netip.AddrFrom4([4]byte{10, net, 0, byte(i)}))
	}
	return list
}

// wantSources asserts what backends see, and that a second plan writes nothing.
func wantSources(t *testing.T, r *rows, w *Want) {
	t.Helper()
	got := r.sourceAddrs()
	for b, list := range w.Sources {
		if !slices.Equal(got[b], list) {
			t.Errorf("backend %s has sources %v, want %v", b, got[b], list)
		}
	}
	if p := mustPlan(t, r, w); !p.empty() {
		t.Errorf("a second plan is %+v", p)
	}
}

func TestEqualSourcesShareARun(t *testing.T) {
	r := empty(4)
	s, sources := natService("web", 80, [][]netip.Addr{addrs(1, 3), addrs(1, 3), addrs(2, 1)})
	w := &Want{Services: []Service{s}, Sources: sources}
	p := mustPlan(t, r, w)
	if len(p.snat) != 2 {
		t.Errorf("wrote runs %v, want two", p.snat)
	}
	execute(t, r, p)
	wantSources(t, r, w)
	if r.services[0].Flags&serviceFullNAT == 0 {
		t.Error("the service has no flag")
	}

	// A further service with the same list needs no further run.
	more, _ := natService("more", 81, [][]netip.Addr{nil})
	w.Services = append(w.Services, more)
	if p = mustPlan(t, r, w); len(p.snat) != 0 {
		t.Errorf("wrote runs %v, want none", p.snat)
	}
	execute(t, r, p)
	wantSources(t, r, w)
}

func TestSourcesInUseAreNotOverwritten(t *testing.T) {
	r := empty(4) // eight addresses
	for step := range byte(10) {
		s, sources := natService("web", 80, [][]netip.Addr{addrs(step, 3)})
		w := &Want{Services: []Service{s}, Sources: sources}
		p := mustPlan(t, r, w)
		for _, b := range r.backends {
			old := sourceSpan(b.Sources)
			for _, n := range p.snat {
				if old.n > 0 && n.at < old.at+old.n && old.at < n.at+uint32(len(n.rows)) {
					t.Fatalf("step %d writes run %v over %v, which is in use", step, n, old)
				}
			}
		}
		if f := r.freedBy(p); step > 0 && len(f.snat) == 0 {
			t.Errorf("step %d frees sources that packets may still read", step)
		}
		execute(t, r, p)
		wantSources(t, r, w)
	}
	s, sources := natService("web", 80, [][]netip.Addr{addrs(77, 6)})
	if _, err := makePlan(r, &Want{Services: []Service{s}, Sources: sources}); !errors.Is(err, ErrFull) {
		t.Errorf("six addresses beside three of eight: %v, want %v", err, ErrFull)
	}
}

// A row loses its sources after the flag that needs them, and gets them before.
func TestSourcesComeBeforeTheFlagAndGoAfterIt(t *testing.T) {
	r := empty(4)
	nat, sources := natService("web", 80, [][]netip.Addr{addrs(1, 2)})
	plain := service("web", 80, 1)
	for _, s := range []Service{nat, plain, nat} {
		w := &Want{Services: []Service{s}, Sources: sources}
		p := mustPlan(t, r, w)
		early := 0
		for _, b := range p.backends {
			early += int(sourceSpan(b.value.Sources).n)
		}
		switch full := s.Forward == model.ForwardFullNAT; {
		case full && early != 2:
			t.Errorf("the plan gives sources too late: %+v", p)
		case !full && (len(p.backends) != 0 || len(p.late) != 1 || p.late[0].value.Sources != 0):
			t.Errorf("the plan takes sources too early: %+v", p)
		}
		execute(t, r, p)
		if got := fmt.Sprint(r.backendView(0, Counters{}).Sources); (got != "[]") != (s.Forward == model.ForwardFullNAT) {
			t.Errorf("with forward: %s the backend has sources %s", s.Forward, got)
		}
	}
}
