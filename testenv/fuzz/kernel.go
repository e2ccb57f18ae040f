package fuzz

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"

	"fairlead/loader"
	m "fairlead/testenv/refmodel"

	"fairlead/testenv/lbtest"
)

// A kernel is the XDP program, run by BPF_PROG_TEST_RUN. Its thread has to
// stay on one CPU.
type kernel struct {
	*lbtest.Datapath // of the world's family, with the size of its table
	w                *world
	loaded           map[config]*lbtest.Datapath
	load             func(config) *lbtest.Datapath
	canCut           bool
	held, told       uint32 // what the agent was given before
}

// A config is what a datapath is loaded for.
type config struct {
	family  *family
	buckets int
}

// newKernel is the program with a fault built in, or none: 0. It is loaded
// once for each family and size of the flow table.
func newKernel(tb testing.TB, fault uint32) *kernel {
	tb.Helper()
	k := &kernel{loaded: map[config]*lbtest.Datapath{}, load: func(c config) *lbtest.Datapath {
		sizes := map[string]uint32{
			loader.LBMapServices: numServices, loader.LBMapTurns: numServices, loader.LBMapSyns: numServices, loader.LBMapServiceConns: numServices,
			loader.LBMapBackends: numBackends, loader.LBMapBackendCounters: numBackends, loader.LBMapBackendConns: numBackends,
			loader.LBMapSlots: numSlots, loader.LBMapFragments: 1 << 12,
		}
		for name, n := range map[string]uint32{
			loader.LBMapListeners: 256, loader.LBMapVips: 16, loader.LBMapFlows: uint32(c.buckets),
			loader.LBMapClients: 4096, loader.LBMapSources: 1 << 14, loader.LBMapAffinity: 1 << 14,
		} {
			sizes[name+c.family.maps] = n
		}
		return c.family.load(tb, sizes, fault)
	}}
	k.choose(config{families[0], bucketNumbers[0]})
	_, _, _, err := k.RunLinear(make([]byte, 100), 50)
	k.canCut = err == nil
	return k
}

// choose goes on with a datapath for this.
func (k *kernel) choose(c config) {
	if k.loaded[c] == nil {
		k.loaded[c] = k.load(c)
	}
	k.Datapath = k.loaded[c]
}

func (k *kernel) cuts() bool { return k.canCut }

func (k *kernel) run(frame []byte, linear int) (res m.Result, err error) {
	var action uint32
	if linear < len(frame) {
		action, res.Out, res.Egress, err = k.RunLinear(frame, linear)
	} else {
		action, res.Out, res.Egress, err = k.Run(frame)
	}
	res.Action = m.Action(action)
	return res, err
}

// reset writes everything. Hash maps are emptied first.
func (k *kernel) reset(w *world) error {
	k.w = w
	k.choose(config{w.family, len(w.table())})
	if err := k.empty(); err != nil {
		return err
	}
	if err := k.clear(); err != nil {
		return err
	}
	if err := k.zero(); err != nil {
		return err
	}
	var err error
	if k.held, k.told, err = k.Held(); err != nil {
		return err
	}
	if err := k.SetRandom(w.random); err != nil {
		return err
	}
	changes := []change{{part: partControl}, {part: partEnv}, {part: partAgent}}
	for at := range w.Snat {
		changes = append(changes, change{part: partSnat, row: uint32(at)})
	}
	for p := range w.Clients {
		changes = append(changes, change{part: partClient, prefix: p})
	}
	for row := range uint32(numServices) {
		changes = append(changes, change{part: partService, row: row})
		if err := k.Maps[loader.LBMapTurns].Put(row, w.Turns[row]); err != nil {
			return fmt.Errorf("write turns: %w", err)
		}
		if err := k.Maps[loader.LBMapSyns].Put(row, loader.LBSyns{}); err != nil {
			return fmt.Errorf("clear syns: %w", err)
		}
	}
	for row := range uint32(numBackends) {
		changes = append(changes, change{part: partBackend, row: row})
	}
	for at := range uint32(numSlots) {
		changes = append(changes, change{part: partSlot, row: at})
	}
	for l := range w.Listeners {
		changes = append(changes, change{part: partListener, listener: l})
	}
	for addr := range w.VIPs {
		changes = append(changes, change{part: partVIP, addr: addr})
	}
	for ifindex := range w.Devices {
		changes = append(changes, change{part: partDevice, row: ifindex})
	}
	for addr := range w.fib {
		changes = append(changes, change{part: partRoute, addr: addr})
	}
	for _, c := range changes {
		if err := k.sync(w, c); err != nil {
			return err
		}
	}
	return nil
}

// empty empties the hash maps.
func (k *kernel) empty() error {
	for _, table := range []*ebpf.Map{
		k.Own(loader.LBMapListeners), k.Own(loader.LBMapVips), k.Maps[loader.LBMapDevices], k.Own(loader.LBMapStandby),
		k.Own(loader.LBMapClients), k.Own(loader.LBMapSources), k.Own(loader.LBMapAffinity), k.Maps[loader.LBMapFragments],
		k.Maps["fibs"], k.Maps["rivals"], k.Maps["first_rivals"], k.Maps["connections"],
	} {
		if err := empty(table); err != nil {
			return fmt.Errorf("empty %v: %w", table, err)
		}
	}
	return nil
}

// empty deletes all keys of a hash map.
func empty(table *ebpf.Map) error {
	key := make([]byte, table.KeySize())
	for {
		switch err := table.NextKey(nil, &key); {
		case isNotExist(err):
			return nil
		case err != nil:
			return fmt.Errorf("read first key: %w", err)
		}
		if err := table.Delete(key); err != nil {
			return fmt.Errorf("delete key: %w", err)
		}
	}
}

// zero clears all counters.
func (k *kernel) zero() error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	counters := make([]loader.LBCounters, cpus)
	for row := range uint32(numBackends) {
		if err := k.Maps[loader.LBMapBackendCounters].Put(row, counters); err != nil {
			return fmt.Errorf("clear counters of backend: %w", err)
		}
	}
	if err := k.clearConnections(); err != nil {
		return err
	}
	for v := range uint32(m.VerdictMax) {
		if err := k.Maps[loader.LBMapVerdicts].Put(v, make([]uint64, cpus)); err != nil {
			return fmt.Errorf("clear verdict: %w", err)
		}
	}
	for kind := range uint32(m.EvictMax) {
		if err := k.Maps[loader.LBMapEvictions].Put(kind, make([]uint64, cpus)); err != nil {
			return fmt.Errorf("clear evictions: %w", err)
		}
	}
	if err := k.Maps[loader.LBMapReplies].Put(uint32(0), make([]loader.LBReplies, cpus)); err != nil {
		return fmt.Errorf("clear replies: %w", err)
	}
	return nil
}

// sync writes one entry, or deletes it where w has none.
func (k *kernel) sync(w *world, c change) error {
	switch c.part {
	case partControl:
		return k.Maps[loader.LBMapControl].Put(uint32(0), controlOf(w.Control))
	case partEnv:
		if err := errors.Join(k.SetNow(w.Now), k.SetCookies(w.cookies)); err != nil {
			return err
		}
		return k.SetMonotonic(w.Clock)
	case partService:
		return k.Maps[loader.LBMapServices].Put(c.row, serviceOf(w.Services[c.row]))
	case partBackend:
		return k.Maps[loader.LBMapBackends].Put(c.row, backendOf(w.Backends[c.row]))
	case partSlot:
		return k.Maps[loader.LBMapSlots].Put(c.row, w.Slots[c.row])
	case partListener:
		row, ok := w.Listeners[c.listener]
		return set(k.Own(loader.LBMapListeners), k.w.codec.listener(c.listener), row, ok)
	case partVIP:
		uses := w.VIPs[c.addr]
		return set(k.Own(loader.LBMapVips), c.addr, uses, uses != 0)
	case partDevice:
		flags, ok := w.Devices[c.row]
		return set(k.Maps[loader.LBMapDevices], c.row, loader.LBDevice{Flags: flags}, ok)
	case partStandby:
		return set(k.Own(loader.LBMapStandby), k.w.codec.key(c.tuple), uint32(0), w.Standby[c.tuple])
	case partClient:
		allow, ok := w.Clients[c.prefix]
		return set(k.Own(loader.LBMapClients), k.w.codec.prefix(c.prefix), ruleOf(allow), ok)
	case partSnat:
		return k.Maps[loader.LBMapSnat].Put(c.row, loader.AddressOf(w.Snat[c.row]))
	case partRoute:
		return k.route(w, c.addr)
	case partConnection:
		over := uint32(0)
		if w.Over[c.tuple] {
			over = 1
		}
		return set(k.Maps["connections"], k.w.codec.key(c.tuple), over, w.Connections[c.tuple] || w.Over[c.tuple])
	case partRival:
		if len(w.Rivals) == 0 {
			return empty(k.Maps["rivals"])
		}
		return k.Maps["rivals"].Put(k.w.codec.key(c.tuple), k.w.codec.rival(w.Rivals[c.tuple]))
	case partFlow:
		return k.free(w, c.tuple)
	case partAgent:
		return k.SetAgent(w.Agent)
	case partFate:
		return set(k.Maps[loader.LBMapFragments], fragmentOf(c.fragment), loader.Fate{}, false)
	case partFirstRival:
		if len(w.FragmentRivals) == 0 {
			return empty(k.Maps["first_rivals"])
		}
		return k.Maps["first_rivals"].Put(fragmentOf(c.fragment), fateOf(w.FragmentRivals[c.fragment]))
	}
	return fmt.Errorf("part %d is unknown", c.part)
}

func (k *kernel) route(w *world, addr m.Addr) error {
	way, ok := w.fib[addr]
	if !ok {
		return set(k.Maps["fibs"], addr, uint32(0), false)
	}
	return k.SetRoute(addr, lbtest.Route{
		Result: int32(way.result), Ifindex: way.hop.Ifindex, Dmac: way.hop.DMAC, Smac: way.hop.SMAC,
		Mtu: way.hop.MTU,
	})
}

// set puts a key with a value or sees that there is none.
func set(table *ebpf.Map, key, value any, exists bool) error {
	if exists {
		return table.Put(key, value)
	}
	if err := table.Delete(key); err != nil && !isNotExist(err) {
		return err
	}
	return nil
}

// state reads what packets have changed.
func (k *kernel) state() (s state, err error) {
	s.Turns = make([]uint64, numServices)
	for row := range s.Turns {
		if err := k.Maps[loader.LBMapTurns].Lookup(uint32(row), &s.Turns[row]); err != nil {
			return s, fmt.Errorf("read turns: %w", err)
		}
	}
	if s.Random, err = k.Random(); err != nil {
		return s, err
	}
	verdicts, err := k.Sums(loader.LBMapVerdicts)
	if err != nil {
		return s, err
	}
	evictions, err := k.Sums(loader.LBMapEvictions)
	if err != nil {
		return s, err
	}
	s.Verdicts, s.Evictions = verdicts[:m.VerdictMax], evictions[:m.EvictMax]
	if s.BackendCounters, err = readCounters(k.Maps[loader.LBMapBackendCounters], numBackends); err != nil {
		return s, err
	}
	if s.Connected, err = k.connections(k.w); err != nil {
		return s, err
	}
	var replies []loader.LBReplies
	if err := k.Maps[loader.LBMapReplies].Lookup(uint32(0), &replies); err != nil {
		return s, fmt.Errorf("read replies: %w", err)
	}
	for _, r := range replies { // all but one CPU's are zero
		s.Replies.Second += r.Second
		s.Replies.Count += r.Count
	}
	if s.Sources, err = k.sources(); err != nil {
		return s, err
	}
	if s.Ties, err = k.ties(); err != nil {
		return s, err
	}
	if s.Syns, err = readSyns(k.Maps[loader.LBMapSyns]); err != nil {
		return s, err
	}
	if s.Fragments, err = k.w.readFragments(k.Maps[loader.LBMapFragments]); err != nil {
		return s, err
	}
	held, told, err := k.Held()
	if err != nil {
		return s, err
	}
	s.Held, s.Told = uint64(held-k.held), uint64(told-k.told)
	s.Flows, s.Faults, err = k.flows(k.w)
	return s, err
}

// sources reads what networks of clients may still do.
func (k *kernel) sources() (map[m.Source]m.Credit, error) {
	sources := map[m.Source]m.Credit{}
	key, read := k.w.codec.source()
	var value loader.LBCredit
	all := k.Own(loader.LBMapSources).Iterate()
	for all.Next(key, &value) {
		sources[read()] = m.Credit{Tick: value.Tick, Left: value.Left}
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("read sources: %w", err)
	}
	return sources, nil
}

func readCounters(table *ebpf.Map, rows int) ([]m.Counters, error) {
	sums := make([]m.Counters, rows)
	for row := range sums {
		var perCPU []loader.LBCounters
		if err := table.Lookup(uint32(row), &perCPU); err != nil {
			return nil, fmt.Errorf("read counters: %w", err)
		}
		for _, c := range perCPU {
			for dir := range c.Packets {
				sums[row].Packets[dir] += c.Packets[dir]
				sums[row].Bytes[dir] += c.Bytes[dir]
			}
			sums[row].Flows += c.Flows
		}
	}
	return sums, nil
}
