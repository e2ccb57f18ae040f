package fuzz

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"

	"github.com/cilium/ebpf"

	"fairlead/loader"
	m "fairlead/testenv/refmodel"
)

// setBalance gives a service another way to choose a backend, rarely one that
// there is not.
func (w *world) setBalance(r *rand.Rand, s *m.Service) {
	s.Balance = uint8(r.IntN(m.BalanceLeast + 1))
	if oneIn(r, 16) {
		s.Balance = 255
	}
	s.Seed = pick(r, []uint64{0, 7, r.Uint64()})
	s.Affinity = pick(r, []uint32{0, 0, 0, 0, 0, 0, 1, 20, 1<<32 - 1})
	s.MaxLoad = pick(r, []uint32{0, 0, 0, 0, 1, 100, 125, 150, 1<<32 - 1})
	s.Weights, s.WeightsAll = 1+r.Uint32N(4), pick(r, []uint32{0, 2, 1<<32 - 1})
	s.SourceMask = w.mask(pick(r, w.limits))
}

// nextRandom is env_random of bpf/test/env.h.
func (w *world) nextRandom() uint32 {
	w.random = w.random*1664525 + 1013904223
	return bits.RotateLeft32(w.random, 16)
}

// newWeight is a backend's.
func newWeight(r *rand.Rand) uint32 {
	return pick(r, []uint32{0, 1, 1, 1, 2, 3, 100, 1<<32 - 1})
}

// connected is how many connections each backend has, and behind them each service.
func (w *world) connected() (ns []uint32) {
	for row := range uint32(numBackends) {
		ns = append(ns, w.Connected(row))
	}
	for row := range uint32(numServices) {
		ns = append(ns, w.ConnectedTo(row))
	}
	return ns
}

// connections reads the same of the kernel.
func (k *kernel) connections(w *world) (ns []uint32, err error) {
	read := func(name string, row int, gen uint32) {
		var c loader.LBConnections
		err = errors.Join(err, k.Maps[name].Lookup(uint32(row), &c))
		if c.Gen != gen {
			c.Count = 0
		}
		ns = append(ns, c.Count)
	}
	for row, b := range w.Backends {
		read(loader.LBMapBackendConns, row, b.Gen)
	}
	for row, s := range w.Services {
		read(loader.LBMapServiceConns, row, s.Gen)
	}
	return ns, err
}

// disconnect counts that an entry was freed, as who frees it has to.
func (k *kernel) disconnect(e entry) error {
	if e.stamp.Era == eraFree || e.flow.Dir != m.Forward || e.stamp.Over() {
		return nil
	}
	return errors.Join(
		less(k.Maps[loader.LBMapBackendConns], e.flow.Backend, e.flow.BackendGen),
		less(k.Maps[loader.LBMapServiceConns], e.flow.Service, e.flow.ServiceGen))
}

// less takes a connection from a row, if it still has this owner.
func less(conns *ebpf.Map, row, gen uint32) error {
	var c loader.LBConnections
	if row >= conns.MaxEntries() {
		return nil
	}
	if err := conns.Lookup(row, &c); err != nil {
		return fmt.Errorf("read connections: %w", err)
	}
	if c.Gen != gen || c.Count == 0 {
		return nil
	}
	c.Count--
	return conns.Put(row, c)
}

// ties reads what networks of clients were last given.
func (k *kernel) ties() (map[m.Source]m.Tie, error) {
	ties := map[m.Source]m.Tie{}
	key, read := k.w.codec.source()
	var value loader.LBTie
	all := k.Own(loader.LBMapAffinity).Iterate()
	for all.Next(key, &value) {
		ties[read()] = m.Tie{Backend: value.Backend, Gen: value.Gen, Tick: value.Tick}
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("read affinity: %w", err)
	}
	return ties, nil
}

// succession gives the row of a backend to another one, and sends clients who
// may get it.
func (g *generator) succession() []change {
	row := g.r.Uint32N(numBackends)
	b := g.w.Backends[row]
	b.Gen++
	cs := []change{{part: partBackend, row: row, text: fmt.Sprintf("another backend in row %d", row), apply: func(w *world) { w.Backends[row] = b }}}
	service := b.Service
	if service >= numServices {
		return cs
	}
	for _, l := range g.w.offered {
		if owner, ok := g.w.Listeners[l]; ok && owner == service {
			for range 6 {
				g.want = append(g.want, m.Tuple{Src: pick(g.r, g.w.clients), SPort: uint16(g.r.Uint32()), Dst: l.Addr, DPort: l.Port, Proto: l.Proto})
			}
			break
		}
	}
	s := g.w.Services[service]
	switch g.r.IntN(3) {
	case 0:
		s.Balance = m.BalanceLeast
	case 1:
		s.Balance, s.MaxLoad, s.Affinity = m.BalanceHash, 100, 0
	}
	text := fmt.Sprintf("service %d: %+v", service, s)
	return append(cs, change{part: partService, row: service, text: text, apply: func(w *world) { w.Services[service] = s }})
}
