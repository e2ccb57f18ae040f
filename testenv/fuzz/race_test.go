package fuzz

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
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
func raceWorld(n int) *world {
	w := newWorld(rand.New(rand.NewPCG(1, 1)))
	clear(w.Listeners)
	clear(w.VIPs)
	w.Control = m.Control{Mode: m.ModeOn, Hz: 250, ReplyLimit: 100, Idle: [m.IdleMax]uint32{9e5, 9e5, 9e5, 9e5, 9e5}}
	w.Now = 1000
	w.Services[0] = m.Service{State: m.ServiceXDP, Gen: 1, Slots: m.Run{Length: uint32(n)}, SlotsAll: m.Run{Length: uint32(n)}}
	w.Listeners[m.Listener{Addr: vips[0], Port: 80, Proto: m.TCP}] = 0
	w.Listeners[m.Listener{Addr: vips[0], Port: 80, Proto: m.UDP}] = 0
	w.Turns[0] = 0
	for i := range n {
		w.Slots[i] = uint32(i)
		w.Backends[i] = m.Backend{Addr: servers[i], Port: 80, State: m.BackendUp, Service: 0}
		w.fib[servers[i]] = route{hop: m.Hop{DMAC: m.MAC{2, 0, 0, 0, 1, byte(i)}, Ifindex: interfaces[0]}}
	}
	w.fib[clients[0]] = route{hop: m.Hop{DMAC: m.MAC{2, 0, 0, 0, 2, 0}, Ifindex: interfaces[0]}}
	return w
}

// raceFlows is the number of flows between two looks at the table.
const raceFlows = 1000

// TestRace runs the first packets of each of many flows on two CPUs at once:
// of new flows, and of some whose entries of an earlier era are in the way.
func TestRace(t *testing.T) {
	for _, backends := range []int{1, 2, 3} {
		for _, proto := range []uint8{m.TCP, m.UDP} {
			t.Run(fmt.Sprintf("%d backends, protocol %d", backends, proto), func(t *testing.T) {
				k := newKernel(t, 0)
				races := 0
				for range 5 {
					w := raceWorld(backends)
					if err := k.reset(w); err != nil {
						t.Fatal(err)
					}
					frames := raceFrames(w, proto)
					for range 2 {
						if err := k.zero(); err != nil {
							t.Fatal(err)
						}
						turns := w.Turns[0]
						w.Turns[0] = race(t, k, frames, backends)
						races += int(w.Turns[0] - turns - raceFlows)
						w.Control.Era++
						if err := k.sync(w, change{part: partControl}); err != nil {
							t.Fatal(err)
						}
					}
				}
				t.Logf("%d of %d flows were raced for", races, 10*raceFlows)
			})
		}
	}
}

// raceFrames are the first packets of raceFlows flows.
func raceFrames(w *world, proto uint8) [][]byte {
	frames := make([][]byte, raceFlows)
	g := newGenerator(rand.New(rand.NewPCG(2, 2)), w, false)
	for i := range frames {
		tuple := m.Tuple{Src: clients[0], Dst: vips[0], SPort: uint16(1000 + i), DPort: 80, Proto: proto}
		frames[i] = g.build(tuple)
		frames[i][22] = 64 // TTL
		if proto == m.TCP {
			frames[i][tcpFlags] = m.SYN
		}
	}
	return frames
}

// race sends each frame twice and returns how many turns were taken ever.
func race(t *testing.T, k *kernel, frames [][]byte, backends int) uint64 {
	for i, pair := range runTogether(k.Program(), frames) {
		for _, r := range pair {
			if r.err != nil {
				t.Fatal(r.err)
			}
			if m.Action(r.action) != m.XDPTx || !bytes.Equal(r.out, pair[0].out) {
				t.Fatalf("flow %d: actions %d and %d, out:\n%x\n%x", i, pair[0].action, pair[1].action, pair[0].out, pair[1].out)
			}
		}
	}
	s, err := k.state()
	if err != nil {
		t.Fatal(err)
	}
	checkRace(t, s, backends)
	if t.Failed() {
		t.FailNow()
	}
	return s.Turns[0]
}

// runTogether sends each frame from two threads at the same moment.
func runTogether(program *ebpf.Program, frames [][]byte) [][2]racer {
	sent := make([][2]racer, len(frames))
	var arrived atomic.Int64
	var wg sync.WaitGroup
	for side := range 2 {
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

// checkRace looks at tables and counters after raceFlows flows of two packets.
func checkRace(t *testing.T, s state, backends int) {
	t.Helper()
	for _, fault := range s.Faults {
		t.Error(fault)
	}
	if len(s.Flows) != 2*raceFlows {
		t.Errorf("%d entries, want %d", len(s.Flows), 2*raceFlows)
	}
	for tuple, f := range s.Flows {
		twin, ok := s.Flows[f.Leave.Reverse()]
		if !ok || twin.Leave.Reverse() != tuple || twin.Dir == f.Dir || twin.Backend != f.Backend {
			t.Errorf("entry %v: %+v\nand its twin: %+v do not name each other", tuple, f, twin)
			break
		}
	}
	c := s.ServiceCounters[0]
	if c.Flows != raceFlows || c.Packets[m.Forward] != 2*raceFlows {
		t.Errorf("service counts %d flows and %d packets, want %d and %d", c.Flows, c.Packets[m.Forward], raceFlows, 2*raceFlows)
	}
	var flows, packets uint64
	for _, c := range s.BackendCounters[:backends] {
		flows += c.Flows
		packets += c.Packets[m.Forward]
	}
	if flows != c.Flows || packets != c.Packets[m.Forward] {
		t.Errorf("backends count %d flows and %d packets, the service %d and %d", flows, packets, c.Flows, c.Packets[m.Forward])
	}
	if n := s.Verdicts[m.ForwardTX]; n != 2*raceFlows {
		t.Errorf("%d packets counted as %v, want %d", n, m.ForwardTX, 2*raceFlows)
	}
}
