package fuzz

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	m "fairlead/testenv/refmodel"
)

// racer is a thread of its own that sends what it is told, together with another.
type racer struct {
	program *ebpf.Program
	action  uint32
	out     []byte
	err     error
}

func (r *racer) run(frame []byte) {
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, 1<<14)}
	r.action, r.err = r.program.Run(&opts)
	r.out = bytes.Clone(opts.DataOut)
}

// raceWorld has one service with n backends, on row 0.
func raceWorld(f *family, n, buckets int) *world {
	w := newWorld(rand.New(rand.NewPCG(1, 1)), f)
	clear(w.Listeners)
	clear(w.VIPs)
	w.Devices[interfaces[0]] = m.DeviceTX
	w.Control = m.Control{
		Mode: m.ModeOn, Era: 1, Hz: 250, ReplyLimit: 100, Idle: [m.IdleMax]uint32{9e5, 9e5, 9e5, 9e5, 9e5},
		HashA: w.Control.HashA, HashB: w.Control.HashB, HashC: w.Control.HashC, HashD: w.Control.HashD, HashE: w.Control.HashE,
	}
	w.resize(buckets)
	w.Now = 1000
	w.Services[0] = m.Service{State: m.ServiceXDP, Gen: 1, LimitMask: w.mask(32), Slots: m.Run{Length: uint32(n)}, SlotsAll: m.Run{Length: uint32(n)}}
	w.Listeners[m.Listener{Addr: w.vips[0], Port: 80, Proto: m.TCP}] = 0
	w.Listeners[m.Listener{Addr: w.vips[0], Port: 80, Proto: m.UDP}] = 0
	w.Turns[0] = 0
	w.Control.SnatPort, w.Control.SnatPorts = 20000, 40000
	copy(w.Snat, w.snats[:3])
	for i := range n {
		w.Slots[i] = uint32(i)
		w.Backends[i] = m.Backend{Addr: w.servers[i], Port: 80, State: m.BackendUp, Service: 0, Sources: m.Run{Length: 3}}
		w.fib[w.servers[i]] = route{hop: m.Hop{DMAC: m.MAC{2, 0, 0, 0, 1, byte(i)}, Ifindex: interfaces[0]}}
	}
	w.fib[w.clients[0]] = route{hop: m.Hop{DMAC: m.MAC{2, 0, 0, 0, 2, 0}, Ifindex: interfaces[0]}}
	return w
}

const (
	raceFlows   = 1000 // flows between two looks at the table
	raceBuckets = 1024 // more than they need
	// raceDrops is how many packets of new flows may be dropped because their
	// bucket's lock was held for too long: by a CPU that the host took away.
	raceDrops = raceFlows / 20
)

// A race has two CPUs that make the same flows at once.
type race struct {
	*kernel
	w        *world
	family   *family
	backends int
	flags    uint8    // of the service
	frames   [][]byte // first packets, one of each flow
	turns    uint64   // taken before
}

// TestRace runs the first packets of each of many flows on two CPUs at once.
// Entries of dead flows are in the way of all but the first.
func TestRace(t *testing.T) {
	for _, r := range []race{{family: &ipv4, backends: 1}, {family: &ipv4, backends: 2}, {family: &ipv4, backends: 3}, {family: &ipv6, backends: 2}} {
		for _, proto := range []uint8{m.TCP, m.UDP} {
			for _, r.flags = range []uint8{0, m.FlagFullNAT} {
				t.Run(fmt.Sprintf("%s, %d backends, protocol %d, flags %d", r.family.name, r.backends, proto, r.flags), func(t *testing.T) {
					r.kernel = newKernel(t, 0)
					r.all(t, proto)
				})
			}
		}
	}
}

// all makes flows over what may be left of earlier ones.
func (r *race) all(t *testing.T, proto uint8) {
	t.Helper()
	for range 5 {
		r.start(t, proto)
		r.run(t, "new flows", false)

		r.w.Control.Era++
		r.update(t, partControl)
		r.run(t, "flows of an earlier era", true)

		r.w.Now += r.w.Control.Idle[0] + 1
		r.update(t, partEnv)
		r.run(t, "flows whose time was up", true)

		if proto == m.TCP {
			r.close(t)
			r.run(t, "flows that were closed", true)
		}
	}
}

// start empties the tables.
func (r *race) start(t *testing.T, proto uint8) {
	t.Helper()
	r.w = raceWorld(r.family, r.backends, raceBuckets)
	r.w.Services[0].Flags = r.flags
	r.turns = r.w.Turns[0]
	if err := r.reset(r.w); err != nil {
		t.Fatal(err)
	}
	r.frames = raceFrames(r.w, proto)
}

// raceFrames are the first packets of raceFlows flows.
func raceFrames(w *world, proto uint8) [][]byte {
	g := newGenerator(rand.New(rand.NewPCG(2, 2)), w, false)
	frames := make([][]byte, raceFlows)
	for i := range frames {
		frame := g.build(m.Tuple{Src: w.clients[0], Dst: w.vips[0], SPort: uint16(1000 + i), DPort: 80, Proto: proto})
		frame[ethLen+w.ttl] = 64 // TTL
		if proto == m.TCP {
			frame[w.l4At()+13] = m.SYN
		}
		frames[i] = frame
	}
	return frames
}

func (r *race) update(t *testing.T, p part) {
	t.Helper()
	if err := r.sync(r.w, change{part: p}); err != nil {
		t.Fatal(err)
	}
}

// close resets all flows; a tick later they may begin again.
func (r *race) close(t *testing.T) {
	t.Helper()
	for _, frame := range r.frames {
		reset := bytes.Clone(frame)
		reset[r.w.l4At()+13] = m.RST
		if _, _, _, err := r.Run(reset); err != nil {
			t.Fatal(err)
		}
	}
	r.w.Now++
	r.update(t, partEnv)
}

// run sends each frame twice. One of the two may be dropped, if it comes while
// the other's CPU deletes old entries that are in the way. Seldom each is in
// the way of the other; then the client sends a third.
func (r *race) run(t *testing.T, name string, old bool) {
	t.Helper()
	if err := r.zero(); err != nil {
		t.Fatal(err)
	}
	dropped, thirds := 0, 0
	for i, pair := range runTogether(r.Program(), r.frames, r.frames) {
		for _, s := range pair {
			if s.err != nil {
				t.Fatal(s.err)
			}
		}
		a, b := pair[0], pair[1]
		if m.Action(a.action) == m.XDPDrop && m.Action(b.action) == m.XDPDrop {
			dropped++
			thirds++
			if a.run(r.frames[i]); a.err != nil {
				t.Fatal(a.err)
			}
		}
		if m.Action(a.action) == m.XDPDrop {
			a = b
			dropped++
		} else if m.Action(b.action) == m.XDPDrop {
			b = a
			dropped++
		}
		if m.Action(a.action) != m.XDPTx || a.action != b.action || !bytes.Equal(a.out, b.out) {
			t.Fatalf("%s: flow %d: actions %d and %d, out:\n%x\n%x", name, i, a.action, b.action, a.out, b.out)
		}
	}
	if !old && dropped > raceDrops {
		t.Errorf("%s: %d packets dropped", name, dropped)
	}
	s, err := r.state()
	if err != nil {
		t.Fatal(err)
	}
	r.check(t, name, s, uint64(2*raceFlows+thirds-dropped), uint64(dropped))
	t.Logf("%s: %d of %d were raced for, %d packets dropped, %d third ones", name, s.Turns[0]-r.turns-raceFlows, raceFlows, dropped, thirds)
	r.turns = s.Turns[0]
}

// runTogether sends frames from two threads, pairs of them at the same moment.
func runTogether(program *ebpf.Program, left, right [][]byte) [][2]racer {
	sent := make([][2]racer, len(left))
	var arrived atomic.Int64
	var wg sync.WaitGroup
	for side, frames := range [][][]byte{left, right} {
		wg.Go(func() {
			runtime.LockOSThread() // and never unlock: the thread ends here
			var cpus unix.CPUSet
			cpus.Set(side)
			_ = unix.SchedSetaffinity(0, &cpus) // one CPU is enough: the threads take turns then
			for i, frame := range frames {
				r := &sent[i][side]
				r.program = program
				arrived.Add(1)
				for spins := 0; arrived.Load() < int64(2*(i+1)); spins++ {
					if spins > 1000 {
						runtime.Gosched()
					}
				}
				r.run(frame)
			}
		})
	}
	wg.Wait()
	return sent
}

// check looks at tables and counters after raceFlows flows began.
func (r *race) check(t *testing.T, name string, s state, packets, dropped uint64) {
	t.Helper()
	if n := checkTable(t, name, s, r.w.Control.Era, false); n != 2*raceFlows {
		t.Errorf("%s: %d entries, want %d", name, n, 2*raceFlows)
	}
	want := m.Counters{Flows: raceFlows, Packets: [2]uint64{packets}}
	var backends m.Counters
	for _, c := range s.BackendCounters[:r.backends] {
		backends.Flows += c.Flows
		backends.Packets[m.Forward] += c.Packets[m.Forward]
	}
	if backends != want {
		t.Errorf("%s: backends count %+v, want %+v", name, backends, want)
	}
	// The old entry that is in the way may be either of the two.
	drops := s.Verdicts[m.DropTableFull] + s.Verdicts[m.DropTupleTaken]
	if s.Verdicts[m.ForwardTX] != packets || drops != dropped {
		t.Errorf("%s: %d packets forwarded and %d dropped, want %d and %d", name, s.Verdicts[m.ForwardTX], drops, packets, dropped)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// checkTable looks at entries one by one, and returns how many are of the era.
// Lone ones, if there may be any, have lost their twins.
func checkTable(t *testing.T, name string, s state, era uint32, lone bool) int {
	t.Helper()
	for _, fault := range s.Faults {
		t.Errorf("%s: %s", name, fault)
	}
	flows := map[m.Tuple]m.Flow{}
	for at, f := range s.Flows {
		if _, twice := flows[f.Key]; twice {
			t.Errorf("%s: %v has two entries, one in %v", name, f.Key, at)
		}
		flows[f.Key] = f
	}
	maps.DeleteFunc(flows, func(_ m.Tuple, f m.Flow) bool { return f.Era != era })
	for _, f := range flows {
		twin, ok := flows[f.TwinKey()]
		if !ok && lone {
			continue
		}
		if !ok || twin.TwinKey() != f.Key || twin.Dir == f.Dir || twin.Backend != f.Backend {
			t.Errorf("%s: entry %+v\nand its twin: %+v do not name each other", name, f, twin)
			break
		}
	}
	return len(flows)
}

// crowdFlows is how many flows begin in one tick of TestCrowdedRace.
const crowdFlows = 10

// TestCrowdedRace has far more flows than places, so that two CPUs are after
// the same ones. Whatever they get, each entry that was made is in the table or
// was evicted.
func TestCrowdedRace(t *testing.T) {
	for _, buckets := range []int{2, 4} {
		for _, shift := range []int{0, 1, 3} {
			t.Run(fmt.Sprintf("%d buckets, the other CPU %d flows ahead", buckets, shift), func(t *testing.T) {
				k, w := newKernel(t, 0), raceWorld(&ipv4, 1, buckets)
				if err := k.reset(w); err != nil {
					t.Fatal(err)
				}
				for frames := raceFrames(w, m.UDP); len(frames) > 0; frames = frames[crowdFlows:] {
					some := frames[:crowdFlows]
					runTogether(k.Program(), some, append(slices.Clone(some[shift:]), some[:shift]...))
					w.Now++
					if err := k.sync(w, change{part: partEnv}); err != nil {
						t.Fatal(err)
					}
				}
				checkCrowd(t, k, buckets)
			})
		}
	}
}

func checkCrowd(t *testing.T, k *kernel, buckets int) {
	t.Helper()
	s, err := k.state()
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(checkTable(t, "flows of all ticks", s, 1, true))
	made, evicted := 2*s.BackendCounters[0].Flows, s.Evictions[m.EvictUnanswered]
	if n != made-evicted || n < uint64(4*buckets) {
		t.Errorf("%d entries are left of %d, %d were evicted", n, made, evicted)
	}
	sent := s.BackendCounters[0].Packets[m.Forward]
	drops := s.Verdicts[m.DropTableFull] + s.Verdicts[m.DropTupleTaken]
	// The other CPU found no place for the twin of the entry that a packet went by.
	drops += s.Verdicts[m.DropFlowEnded]
	if sent+drops != 2*raceFlows || s.Verdicts[m.ForwardTX] != sent {
		t.Errorf("%d packets were sent and %d dropped, want %d", sent, drops, 2*raceFlows)
	}
	t.Logf("%d entries made, %d evicted, %d left, %d packets dropped", made, evicted, n, drops)
}
