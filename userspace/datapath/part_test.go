package datapath

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"fairlead/userspace/balance"
	"fairlead/userspace/model"
)

var allMethods = []model.Method{
	model.RoundRobin, model.Maglev, model.SourceHash, model.Random, model.P2C, model.LeastConnections, model.ResponseTime,
}

// randomChange gives a service another health, other shares, weights, backends,
// another method, or others who serve first.
func randomChange(r *rand.Rand, s *Service) {
	n := len(s.Backends)
	switch r.IntN(7) {
	case 0:
		s.Down[r.IntN(n)] = r.IntN(2) == 0
	case 1:
		s.Shares = make([]int, n)
		for i := range s.Shares {
			s.Shares[i] = 1 + r.IntN(balance.Whole)
		}
	case 2:
		s.Backends[r.IntN(n)].Weight = r.IntN(4)
	case 3:
		i := r.IntN(n) // no other one gets its address
		s.Backends[i].Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(3 + i), byte(r.IntN(250)), 2}), 8080)
	case 4:
		s.Balance = model.Balance{Method: allMethods[r.IntN(len(allMethods))], TableSize: 31, Seed: r.Uint64()}
	case 5:
		s.Forward = []model.Forward{model.ForwardDNAT, model.ForwardProxy, model.ForwardFullNAT}[r.IntN(3)]
		s.Proxy = s.Forward == model.ForwardProxy
	case 6:
		b := &s.Backends[r.IntN(n)]
		b.Backup, b.Zone = r.IntN(3) == 0, []string{"", "east", "west"}[r.IntN(3)]
		s.Zone, s.ZoneThreshold, s.PanicThreshold = []string{"", "east"}[r.IntN(2)], 1+r.IntN(100), r.IntN(101)
	}
}

// TestPartsOfPlansLeadToTheSame changes a few of many services at a time, looks
// at those alone, and has a whole plan find that nothing is left to do.
func TestPartsOfPlansLeadToTheSame(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := empty(128) // much room for tables
	w := &Want{Devices: map[uint32]Device{2: {}}}
	for i := range 12 {
		s := service("s", uint16(80+i), 1, 2, 1)
		s.Down = make([]bool, 3)
		if i%2 == 0 {
			s.ClientZones = someZones[1]
		}
		w.Services = append(w.Services, s)
	}
	p := mustPlan(t, r, w)
	execute(t, r, p)
	done := p.settle(nil)
	for step := range 2000 {
		for range rng.IntN(3) {
			randomChange(rng, &w.Services[rng.IntN(len(w.Services))])
		}
		which, ok := changed(done, w)
		if !ok {
			t.Fatalf("step %d: no part of a plan will do", step)
		}
		p, err := partPlan(r, w, done, which)
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		execute(t, r, p)
		done = p.settle(done)
		if p := mustPlan(t, r, w); !p.empty() {
			t.Fatalf("step %d: after a plan for %v a whole one writes %d entries", step, which, p.writes())
		}
		for i := range w.Services {
			checkService(t, step, r, &w.Services[i])
		}
	}
}

func BenchmarkPlanOfOneChangeAmongMany(b *testing.B) {
	const n = 10_000
	w := &Want{}
	for i := range n {
		w.Services = append(w.Services, service("s", uint16(80+i), 1, 1, 1))
	}
	r := empty(n)
	p, err := makePlan(r, w)
	if err != nil {
		b.Fatal(err)
	}
	done := p.settle(nil)
	for i := range done { // as the maps would be then
		r.services[done[i].row].State = serviceXDP
		r.services[done[i].row].Slots = uint64(3*i)<<32 | 3
		for _, row := range done[i].backends {
			r.backends[row].State = backendUp
		}
	}
	s := &w.Services[n/2]
	s.Down = make([]bool, 3)
	for b.Loop() {
		s.Down[1] = true
		which, ok := changed(done, w)
		if !ok || len(which) != 1 {
			b.Fatalf("changed: %v, %t", which, ok)
		}
		if _, err := partPlan(r, w, done, which); err != nil {
			b.Fatal(err)
		}
	}
}

// TestEveryFieldOfAServiceIsLookedAt changes them one after the other, so that a
// new one is not forgotten when parts of plans are made.
func TestEveryFieldOfAServiceIsLookedAt(t *testing.T) {
	aside := map[string]bool{
		"Health": true, "SlowStart": true, "Drain": true, // the daemon's, which turns them into shares and backends
		"HTTP":             true, // the HTTP proxy's
		"Names":            true, // the TLS proxy's
		"PassiveThreshold": true, // the same, of whom it has probed
		"PassiveResets":    true,
		"Known":            true, // of Keep's answer
	}
	base := service("a", 80, 1, 1)
	base.Down, base.Shares = []bool{false, false}, []int{20, 20}
	done := mustPlan(t, empty(2), &Want{Services: []Service{base}}).settle(nil)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Service]()) {
		if field.Name == "Service" || aside[field.Name] {
			continue
		}
		s := base.clone()
		alter(t, field.Name, reflect.ValueOf(&s).Elem().FieldByIndex(field.Index))
		if which, ok := changed(done, &Want{Services: []Service{s}}); ok && len(which) == 0 {
			t.Errorf("a change of %s is overlooked", field.Name)
		}
	}
	if which, ok := changed(done, &Want{Services: []Service{base}}); !ok || len(which) != 0 {
		t.Errorf("without a change, changed = %v, %t", which, ok)
	}
}

// alter gives a field another value.
func alter(t *testing.T, name string, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *time.Duration:
		*x += time.Second
	case *netip.AddrPort:
		*x = netip.AddrPortFrom(x.Addr(), x.Port()+1)
	case *model.Balance:
		x.Seed++
	case **model.ClientZones:
		*x = someZones[1]
	case *model.Clients:
		x.Limit.Rate++
	case *model.AcceptProxy:
		x.From = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	case *[]model.Backend:
		(*x)[1].Weight++
	case *[]bool:
		(*x)[1] = !(*x)[1]
	case *[]int:
		(*x)[1]++
	default:
		switch v.Kind() {
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Int, reflect.Uint16:
			v.Set(reflect.ValueOf(7).Convert(v.Type()))
		default:
			t.Fatalf("no other value for %s of type %s", name, v.Type())
		}
	}
}
