// Package livegen sends millions of frames a second into a veth.
//
// It runs a small XDP program over BPF_PROG_TEST_RUN with live frames: the
// program writes the headers, with another source each time, and redirects the
// frame to an interface. No client stack takes part, so that what is measured
// or flooded is what stands at the other end of the cable. Every frame is
// counted; frames that the interface refuses are reported as lost.
package livegen

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/xdpwatch"
)

// Vary says which sources the frames have: frame n has the template's source
// port plus n mod Ports, and the template's source address plus n/Ports mod
// Addrs, which changes an address of IPv6 in its last 32 bits only. A port that
// would exceed 65535 is refused by [New].
type Vary struct {
	Ports uint32 // 0 means 1: the template's port
	Addrs uint32 // 0 means 1: the template's address
	// Random puts a random number in place of n.
	Random bool
}

// Options say what [New] sends and where.
type Options struct {
	// Host sends out of Iface, through a veth whose far end polls: with GRO
	// or an XDP program, as every [testenv.Cable] does.
	Host  *testenv.Host
	Iface string
	// Frame is the template: IPv4 without options or IPv6 without extension
	// headers, TCP or UDP, with right checksums, as [testenv.TCPFrame] builds.
	// The checksums are kept right.
	Frame []byte
	Vary  Vary
	// CPU pins the sender, and so whoever receives, to one CPU. Nil does not.
	CPU *int
	// Batch is how many frames are handed over at once, 64 by default. More
	// than 256 overflows a veth.
	Batch uint32
}

// A Generator sends frames until its test ends. It sends for one caller at a
// time. Two generators on one host count each other's losses.
type Generator struct {
	opts  Options
	prog  *ebpf.Program
	state *ebpf.Map
	watch *xdpwatch.Watch
	mu    sync.Mutex
}

// maxRepeat bounds one system call, so that a context is looked at in between.
const maxRepeat = 1 << 19

// New prepares a generator. It sends nothing.
func New(tb testenv.TB, opts Options) *Generator {
	tb.Helper()
	opts.Vary.Ports = max(opts.Vary.Ports, 1)
	opts.Vary.Addrs = max(opts.Vary.Addrs, 1)
	var index int
	opts.Host.Do(tb, func() error {
		l, err := netlink.LinkByName(opts.Iface)
		if err != nil {
			return fmt.Errorf("find link %s: %w", opts.Iface, err)
		}
		index = l.Attrs().Index
		return nil
	})
	state, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "livegen", Type: ebpf.Array, KeySize: 4, ValueSize: stateSize, MaxEntries: 1,
	})
	if err != nil {
		tb.Fatalf("make map of generator: %v", err)
	}
	tb.Cleanup(func() { state.Close() })
	insns, err := program(opts.Frame, opts.Vary, state.FD(), index)
	if err != nil {
		tb.Fatalf("make generator: %v", err)
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "livegen", Type: ebpf.XDP, License: "GPL", Instructions: insns,
	})
	if err != nil {
		tb.Fatalf("load generator: %v", err)
	}
	tb.Cleanup(func() { prog.Close() })
	return &Generator{opts: opts, prog: prog, state: state, watch: xdpwatch.New(tb, opts.Host)}
}

// A Result is what became of the frames of one call.
type Result struct {
	Sent int // frames that the interface took
	Lost int // frames that it refused: a full ring at the far end
	// Took is how long the kernel sent, without the set-up of each call.
	Took time.Duration
}

// PPS returns the rate of frames sent.
func (r Result) PPS() float64 { return float64(r.Sent) / r.Took.Seconds() }

// Send makes exactly n frames, as fast as it can. A call costs some 10 ms
// besides, so make n large. The sequence of [Vary] goes on from call to call.
func (g *Generator) Send(n int) (Result, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.watch.Counts()
	s, err := g.load()
	if err != nil {
		return Result{}, err
	}
	start := s.Seq
	var took time.Duration
	runErr := g.opts.Host.In(func() error {
		if g.opts.CPU != nil {
			if err := testenv.PinCPU(*g.opts.CPU); err != nil {
				return err
			}
		}
		took, err = g.run(start + uint64(n))
		return err
	})
	if s, err = g.load(); err != nil {
		return Result{}, err
	}
	lost := int(g.watch.Counts().Sub(before).Lost())
	return Result{Sent: int(s.Seq-start) - lost, Lost: lost, Took: took}, runErr
}

// run makes frames until the sequence number is end. The program itself stops
// there: a call that a signal interrupts is started anew by the library and
// would make too many.
func (g *Generator) run(end uint64) (time.Duration, error) {
	var took time.Duration
	for {
		s, err := g.load()
		if err != nil || s.Seq >= end {
			return took, err
		}
		s.Start, s.Limit = s.Seq, min(end, s.Seq+maxRepeat)
		if err := g.state.Put(uint32(0), s); err != nil {
			return took, fmt.Errorf("write state of generator: %w", err)
		}
		_, err = g.prog.Run(&ebpf.RunOptions{
			Data:      g.opts.Frame,
			Repeat:    uint32(s.Limit - s.Seq),
			Flags:     unix.BPF_F_TEST_XDP_LIVE_FRAMES,
			BatchSize: g.opts.Batch,
		})
		if err != nil {
			return took, fmt.Errorf("send from %s: %w", g.opts.Host.Name, err)
		}
		if s, err = g.load(); err != nil {
			return took, err
		}
		took += time.Duration(s.Last - s.First)
	}
}

// Run sends rate frames a second on average, in bursts of a fiftieth of a
// second, until ctx is done. It returns the cause of ctx, or what went wrong,
// and always what was sent. Took is the time that passed.
func (g *Generator) Run(ctx context.Context, rate int) (Result, error) {
	start := time.Now()
	var total Result
	tick := time.NewTicker(time.Second / 50)
	defer tick.Stop()
	for made := 0; ; {
		due := int(time.Since(start).Seconds()*float64(rate)) - made
		if due > 0 {
			r, err := g.Send(min(due, maxRepeat))
			made += r.Sent + r.Lost
			total.Sent += r.Sent
			total.Lost += r.Lost
			total.Took = time.Since(start)
			if err != nil {
				return total, err
			}
		}
		select {
		case <-ctx.Done():
			return total, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (g *Generator) load() (state, error) {
	var s state
	if err := g.state.Lookup(uint32(0), &s); err != nil {
		return s, fmt.Errorf("read state of generator: %w", err)
	}
	return s, nil
}
