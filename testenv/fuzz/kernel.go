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
	seeded           bool   // whether it was made with a fault,
	fault            uint32 // in whose place this one is from the next reset on
	canCut           bool
	dry              map[*lbtest.Datapath]*lbtest.Datapath // what runs dry in a loaded one's world
	unforetold       []string                              // packets since reset that did other than their dry run
	events           []loader.Event                        // those since reset that were read
	past             []item                                // packets since reset
	held, told       uint32                                // what the agent was given before
	races            bool                                  // whether another CPU may be quicker somewhere
}

// A config is what a datapath is loaded for.
type config struct {
	family  *family
	buckets int
}

// newKernel is the program with a fault built in, or none for good: 0. It is
// loaded once for each family and size of the flow table.
func newKernel(tb testing.TB, fault uint32) *kernel {
	tb.Helper()
	k := &kernel{seeded: fault != 0, fault: fault, loaded: map[config]*lbtest.Datapath{}, dry: map[*lbtest.Datapath]*lbtest.Datapath{}}
	k.load = func(c config) *lbtest.Datapath {
		sizes := map[string]uint32{
			loader.LBMapServices: numServices, loader.LBMapTurns: numServices, loader.LBMapSyns: numServices, loader.LBMapServiceConns: numServices,
			loader.LBMapBackends: numBackends, loader.LBMapBackendCounters: numBackends, loader.LBMapBackendConns: numBackends,
			loader.LBMapSlots: numSlots, loader.LBMapFragments: 1 << 12, loader.LBMapDevices: 1 << 8, loader.LBMapEvents: uint32(eventRing()),
			loader.LBMapLocks: uint32(c.buckets), // no more are taken
			"fibs":            1 << 10, "rivals": 1 << 10, "first_rivals": 1 << 10, "connections": 1 << 10,
		}
		for name, n := range map[string]uint32{
			loader.LBMapListeners: 256, loader.LBMapVips: 16, loader.LBMapFlows: uint32(c.buckets),
			loader.LBMapClients: 4096, loader.LBMapSources: 1 << 12, loader.LBMapStandby: 1 << 10, loader.LBMapAffinity: 1 << 12,
		} {
			sizes[name+c.family.maps] = n
		}
		d := c.family.load(tb, sizes, fault)
		k.dry[d] = d.Dry(tb, fault)
		return d
	}
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

func (k *kernel) run(frame []byte, linear int) (m.Result, error) {
	foretold, err := k.rehearse(frame, linear)
	if err != nil {
		return m.Result{}, err
	}
	res, err := runOn(k.Datapath, frame, linear)
	if err == nil && foretold != nil && !same(res, *foretold) {
		k.unforetold = append(k.unforetold, fmt.Sprintf("dry run: action %d, egress %d: %s; then action %d, egress %d: %s", foretold.Action, foretold.Egress, describe(foretold.Out), res.Action, res.Egress, describe(res.Out)))
	}
	return res, err
}

func runOn(d *lbtest.Datapath, frame []byte, linear int) (res m.Result, err error) {
	var action uint32
	if linear < len(frame) {
		action, res.Out, res.Egress, err = d.RunLinear(frame, linear)
	} else {
		action, res.Out, res.Egress, err = d.Run(frame)
	}
	res.Action = m.Action(action)
	return res, err
}

// reset writes everything.
func (k *kernel) reset(w *world) error {
	k.w = w
	k.choose(config{w.whole(), len(w.table())})
	if k.seeded {
		if err := errors.Join(k.SetFault(k.fault), k.dry[k.Datapath].SetFault(k.fault)); err != nil {
			return fmt.Errorf("set fault: %w", err)
		}
	}
	err := errors.Join(k.Clear(), k.forgetEvents())
	if err != nil {
		return err
	}
	k.unforetold, k.past = nil, nil
	if k.held, k.told, err = k.Held(); err != nil {
		return err
	}
	if err := k.SetRandom(w.random); err != nil {
		return err
	}
	snat := make([]loader.Address, numSnat)
	for at, addr := range w.Snat {
		snat[at] = loader.AddressOf(addr)
	}
	for name, rows := range map[string]any{loader.LBMapSnat: snat, loader.LBMapTurns: w.Turns, loader.LBMapSlots: w.Slots} {
		if err := lbtest.Write(k.Maps[name], rows); err != nil {
			return err
		}
	}
	changes := []change{{part: partControl}, {part: partEnv}, {part: partAgent}, {part: partSample}}
	for p := range w.Clients {
		changes = append(changes, change{part: partClient, prefix: p})
	}
	for p := range w.Zones {
		changes = append(changes, change{part: partZone, network: p})
	}
	for row := range uint32(numServices) {
		changes = append(changes, change{part: partService, row: row})
	}
	for row := range uint32(numBackends) {
		changes = append(changes, change{part: partBackend, row: row})
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

// zero clears all counters.
func (k *kernel) zero() error {
	for _, name := range []string{loader.LBMapBackendCounters, loader.LBMapBackendConns, loader.LBMapVerdicts, loader.LBMapEvictions, loader.LBMapReplies} {
		if err := lbtest.Zero(k.Maps[name]); err != nil {
			return err
		}
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
		return set(k.vips(c.addr), c.addr, uses, uses != 0)
	case partDevice:
		flags, ok := w.Devices[c.row]
		return set(k.Maps[loader.LBMapDevices], c.row, loader.LBDevice{Flags: flags}, ok)
	case partStandby:
		return set(k.Own(loader.LBMapStandby), k.w.codec.key(c.tuple), uint32(0), w.Standby[c.tuple])
	case partClient:
		allow, ok := w.Clients[c.prefix]
		return set(k.Own(loader.LBMapClients), k.w.codec.prefix(c.prefix), ruleOf(allow), ok)
	case partZone:
		return k.setZone(w, c.network)
	case partSnat:
		return k.Maps[loader.LBMapSnat].Put(c.row, loader.AddressOf(w.Snat[c.row]))
	case partRoute:
		return k.route(w, c.addr)
	case partConnection:
		return k.connection(w, c.tuple)
	case partRival:
		return k.rival(w, c.tuple)
	case partFlow:
		return k.free(w, c.tuple)
	case partAgent:
		return k.SetAgent(w.Agent)
	case partFate:
		return set(k.Maps[loader.LBMapFragments], fragmentOf(c.fragment), loader.Fate{}, false)
	case partFirstRival:
		return k.firstRival(w, c.fragment)
	case partSample:
		return k.Maps[loader.LBMapEventSample].Put(uint32(0), w.EventSample)
	case partRead:
		return k.readEvents()
	}
	return fmt.Errorf("part %d is unknown", c.part)
}

// connection writes what the host has for a tuple: a connection, one that is over, or none.
func (k *kernel) connection(w *world, tuple m.Tuple) error {
	over := uint32(0)
	if w.Over[tuple] {
		over = 1
	}
	return set(k.Maps["connections"], k.w.codec.key(tuple), over, w.Connections[tuple] || w.Over[tuple])
}

// rival writes what another CPU does to an entry meanwhile.
func (k *kernel) rival(w *world, tuple m.Tuple) error {
	k.races = true
	if len(w.Rivals) == 0 {
		return lbtest.Empty(k.Maps["rivals"])
	}
	return k.Maps["rivals"].Put(k.w.codec.key(tuple), k.w.codec.rival(w.Rivals[tuple]))
}

// firstRival is rival for what is remembered of a first fragment.
func (k *kernel) firstRival(w *world, fragment m.FragmentKey) error {
	k.races = true
	if len(w.FragmentRivals) == 0 {
		return lbtest.Empty(k.Maps["first_rivals"])
	}
	return k.Maps["first_rivals"].Put(fragmentOf(fragment), fateOf(w.FragmentRivals[fragment]))
}

// vips is the map that an address belongs into.
func (k *kernel) vips(addr m.Addr) *ebpf.Map {
	if addr.Is4() {
		return k.Maps[loader.LBMapVips]
	}
	return k.Own(loader.LBMapVips)
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
	if s.Turns, err = lbtest.Rows[uint64](k.Maps[loader.LBMapTurns]); err != nil {
		return s, err
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
	if s.BackendCounters, err = readCounters(k.Maps[loader.LBMapBackendCounters]); err != nil {
		return s, err
	}
	if s.Connected, err = k.connections(k.w); err != nil {
		return s, err
	}
	replies, err := lbtest.Rows[loader.LBReplies](k.Maps[loader.LBMapReplies])
	if err != nil {
		return s, err
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
	if err := s.events(k); err != nil {
		return s, err
	}
	s.Held, s.Told = uint64(held-k.held), uint64(told-k.told)
	s.Flows, s.Faults, err = k.flows(k.w)
	s.Faults = append(s.Faults, k.unforetold...)
	return s, err
}

// sources reads what networks of clients may still do.
func (k *kernel) sources() (map[m.Source]m.Credit, error) {
	return bySource(k, loader.LBMapSources, func(c loader.LBCredit) m.Credit { return m.Credit{Tick: c.Tick, Left: c.Left} })
}

// bySource reads a map of what is known of networks of clients.
func bySource[V, T any](k *kernel, name string, of func(V) T) (map[m.Source]T, error) {
	known := map[m.Source]T{}
	key, read := k.w.codec.source()
	var value V
	all := k.Own(name).Iterate()
	for all.Next(key, &value) {
		known[read()] = of(value)
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return known, nil
}

func readCounters(table *ebpf.Map) ([]m.Counters, error) {
	values, err := lbtest.Rows[loader.LBCounters](table)
	if err != nil {
		return nil, err
	}
	sums := make([]m.Counters, table.MaxEntries())
	for i, c := range values {
		sum := &sums[i/ebpf.MustPossibleCPU()]
		for dir := range c.Packets {
			sum.Packets[dir] += c.Packets[dir]
			sum.Bytes[dir] += c.Bytes[dir]
		}
		sum.Flows += c.Flows
		for sign := range c.Troubles {
			sum.Troubles[sign] += c.Troubles[sign]
		}
	}
	return sums, nil
}
