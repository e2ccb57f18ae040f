package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
)

const (
	reconcileRounds   = 5
	reconcileServices = 10_000
	reconcileAll      = 1000 // ms that all of them may take
	reconcileOne      = 5    // and one changed among them
)

// manyServices returns a want with n services of three backends each.
func manyServices(n int) *datapath.Want {
	want := &datapath.Want{}
	for i := range n {
		addr := netip.AddrFrom4([4]byte{203, 0, 113, byte(i % 200)})
		s := model.Service{
			Name: fmt.Sprintf("service-%d", i), Listen: netip.AddrPortFrom(addr, uint16(1000+i/200)),
			Protocol: model.TCP, Forward: model.ForwardDNAT, Balance: model.Balance{Method: model.RoundRobin},
		}
		s.LastPort = s.Listen.Port()
		for k := range 3 {
			backend := netip.AddrFrom4([4]byte{10, byte(2 + k), byte(i >> 8), byte(i)})
			s.Backends = append(s.Backends, model.Backend{Address: netip.AddrPortFrom(backend, 8080), Weight: 1})
		}
		want.Services = append(want.Services, datapath.Service{Service: s})
	}
	return want
}

// A reconciliation is the maps of an instance and what writes them.
type reconciliation struct {
	testenv.TB
	writer *datapath.Writer
	maps   *loader.Maps
}

// newReconciliation makes an instance with room for want and nothing in it, on
// the balancer of a rig. closed takes it out again.
func newReconciliation(b *bench, r *testenv.Rig, want *datapath.Want) (rec *reconciliation, closed func()) {
	b.Helper()
	state := &model.State{}
	for i := range want.Services {
		state.Services = append(state.Services, want.Services[i].Service)
	}
	dir := filepath.Join(testenv.BPFFS(b), "fairlead")
	var inst *loader.Instance
	r.Balancer.Do(b, func() (err error) {
		inst, _, err = loader.Attach(b.ctx, dir, loader.Options{
			Sizes: datapath.Needs(nil, state), Interfaces: r.ClientLinks, Mode: loader.AttachNative,
		})
		return err
	})
	closed = func() {
		inst.Close()
		r.Balancer.Do(b, func() error { return loader.Detach(context.Background(), dir, nil) })
	}
	w, err := datapath.New(inst.Maps())
	if err != nil {
		closed()
		b.Fatalf("%v", err)
	}
	return &reconciliation{TB: b, writer: w, maps: inst.Maps()}, closed
}

// apply makes the maps hold want and returns how long that took, and how many
// entries were written.
func (r *reconciliation) apply(want *datapath.Want) (ms float64, writes int) {
	r.Helper()
	begin := time.Now()
	n, err := r.writer.Reconcile(want)
	if err != nil {
		r.Fatalf("%v", err)
	}
	return float64(time.Since(begin).Microseconds()) / 1000, n
}

func reconcile(b *bench) {
	r := testenv.NewRig(b, testenv.RigOptions{Backends: 1})
	want := manyServices(reconcileServices)
	// The subjects of a round come one after the other: they are one story.
	var results [3][]float64
	var writes [3]int
	b.measure("reconcile", reconcileRounds, []subject{{"10 000 services", func() float64 {
		rec, closed := newReconciliation(b, r, want)
		defer closed()
		for i := range results {
			if i == 1 {
				change(&want.Services[reconcileServices/2])
			}
			ms, n := rec.apply(want)
			results[i], writes[i] = append(results[i], ms), n
		}
		return 0
	}}})
	t := table{
		title:   fmt.Sprintf("Writing %d services of 3 backends into the kernel's maps (median of %d rounds)", reconcileServices, reconcileRounds),
		columns: []string{"reconcile", "ms", "entries written"},
	}
	for i, name := range []string{"from nothing", "one backend of one service changed", "nothing changed"} {
		t.add(name, fmt.Sprintf("%.1f", median(results[i])), fmt.Sprint(writes[i]))
	}
	t.targets = []target{
		{what: "from nothing, ms", got: median(results[0]), bound: reconcileAll},
		{what: "one backend changed, ms", got: median(results[1]), bound: reconcileOne},
	}
	t.print(b.out)
}

// change gives the last backend of a service another address.
func change(s *datapath.Service) {
	b := &s.Backends[len(s.Backends)-1]
	b.Address = netip.AddrPortFrom(b.Address.Addr(), b.Address.Port()%60000+1)
}
