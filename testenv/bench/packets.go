package main

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/userspace/model"
)

const (
	packetRounds = 25
	packetRuns   = 400_000
	// newRuns is how many flows a round makes; the table is full by then.
	newRuns = 150_000
	// newFill is more than the flow table holds.
	newFill = 2 * model.DefaultFlowTable
	// lookupTarget bounds a TCP flow's packet in one-look-up programs.
	lookupTarget = 1.4
)

// newFlows is where the sources of new flows are; see bpf/bench.c.
var newFlows = net.IPNet{IP: net.IPv4(198, 18, 0, 0), Mask: net.CIDRMask(15, 32)}

// A packetBench runs programs on one packet, in the place of the balancer.
type packetBench struct {
	testenv.TB
	host     *testenv.Host
	programs map[string]*ebpf.Program
	coll     *ebpf.Collection
	live     *ebpf.Program // as attached
	maps     *loader.Maps
	// The packets of one flow.
	syn, synAck, ack []byte
}

func newPacketBench(b *bench) *packetBench {
	b.Helper()
	r := testenv.NewRig(b, testenv.RigOptions{Backends: 1})
	r.Balancer.Do(b, func() error {
		l, err := netlink.LinkByName(r.ClientLinks[0])
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: &newFlows, Gw: r.ClientAddrs[0].AsSlice()})
	})
	k, dir := attach(b.ctx, b, r, oneService(r, model.TCP, 80, 8080))
	coll := loadPrograms(b, dir, "run_empty", "run_restore", "run_swap", "run_lookup", "run_forward", "run_hit", "run_new")
	client, backend := netip.AddrPortFrom(r.ClientAddrs[0], 40000), netip.AddrPortFrom(r.BackendAddrs[0], 8080)
	service := netip.AddrPortFrom(vip, 80)
	p := &packetBench{
		TB: b, host: r.Balancer, programs: coll.Programs, coll: coll, live: k.Instance().Program(), maps: k.Maps(),
		syn:    testenv.TCPFrame(testenv.FrameSpec{Src: client, Dst: service, Flags: testenv.SYN}),
		synAck: testenv.TCPFrame(testenv.FrameSpec{Src: backend, Dst: client, Flags: testenv.SYN | testenv.ACK}),
		// It acknowledges the SYN of the answer, or the flow would not be established.
		ack: testenv.TCPFrame(testenv.FrameSpec{Src: client, Dst: service, Flags: testenv.ACK, Ack: 1}),
	}
	key := loader.FlowKey{
		Saddr: native32(client.Addr()), Daddr: native32(vip), Sport: native16(client.Port()), Dport: native16(80), Proto: 6,
	}
	if err := coll.Maps["table"].Put(key, uint32(xdpTX)); err != nil {
		b.Fatalf("fill table: %v", err)
	}
	return p
}

// open makes the flow of the packets, or finds it open already.
func (p *packetBench) open() {
	p.Helper()
	for _, frame := range [][]byte{p.syn, p.synAck, p.ack} {
		p.run(p.live, frame, 1, xdpRedirect)
	}
}

// run runs a program n times on a packet and returns what one run took, in ns
// of the thread's own time, so that what else the machine does counts little.
func (p *packetBench) run(prog *ebpf.Program, frame []byte, n uint32, want uint32) float64 {
	p.Helper()
	var took time.Duration
	p.host.Do(p, func() error {
		if err := testenv.PinCPU(cpu()); err != nil {
			return err
		}
		before, err := cpuTime(unix.CLOCK_THREAD_CPUTIME_ID)
		if err != nil {
			return err
		}
		got, err := prog.Run(&ebpf.RunOptions{Data: frame, Repeat: n})
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("run %s: the action is %d, not %d", prog, got, want)
		}
		after, err := cpuTime(unix.CLOCK_THREAD_CPUTIME_ID)
		took = after - before
		return err
	})
	return float64(took.Nanoseconds()) / float64(n)
}

// repeat is run for a program of bpf/bench.c.
func (p *packetBench) repeat(name string, frame []byte, n, want uint32) float64 {
	p.Helper()
	set(p, p.coll, "template", frame)
	return p.run(p.programs[name], frame, n, want)
}

// hit forwards n packets of one flow.
func (p *packetBench) hit(n uint32) float64 {
	p.Helper()
	p.open()
	return p.counted(func() float64 { return p.repeat("run_hit", p.ack, n, xdpRedirect) }, n, 0)
}

// open makes n flows.
func (p *packetBench) make(n uint32) float64 {
	p.Helper()
	return p.counted(func() float64 { return p.repeat("run_new", p.syn, n, xdpRedirect) }, n, n)
}

// counted calls f and checks that it forwarded as many packets and made as many
// flows as it was to, or more, when the kernel had to start it anew.
func (p *packetBench) counted(f func() float64, packets, flows uint32) float64 {
	p.Helper()
	before, flowsBefore := p.counts()
	result := f()
	after, flowsAfter := p.counts()
	for v := range after {
		n := after[v] - before[v]
		if v == int(loader.LBVerdictFORWARD_REDIRECT) && n < uint64(packets) || v != int(loader.LBVerdictFORWARD_REDIRECT) && n > 0 {
			p.Fatalf("%d packets gave the verdict %s %d times", packets, loader.Verdict(v), n)
		}
	}
	if n := flowsAfter - flowsBefore; n < uint64(flows) || flows == 0 && n > 0 {
		p.Fatalf("made %d flows, want %d", n, flows)
	}
	return result
}

// counts returns the verdicts and the number of flows that were made.
func (p *packetBench) counts() ([loader.Verdicts]uint64, uint64) {
	p.Helper()
	verdicts, err := p.maps.ReadVerdicts()
	if err != nil {
		p.Fatalf("%v", err)
	}
	rows, err := p.maps.ReadCounters(loader.TableServices)
	if err != nil {
		p.Fatalf("%v", err)
	}
	var flows uint64
	for _, r := range rows {
		flows += r.Flows
	}
	return verdicts, flows
}

func packets(b *bench) {
	p := newPacketBench(b)
	simple := func(name string) func() float64 {
		return func() float64 { return p.repeat(name, p.ack, packetRuns, xdpTX) }
	}
	subjects := []subject{
		{"nothing", simple("run_empty")},
		{"restore the packet", simple("run_restore")},
		{"restore, swap MAC addresses", simple("run_swap")},
		{"restore, one LRU look-up", simple("run_lookup")},
		{"restore, look-up, MAC addresses, redirect", func() float64 { return p.repeat("run_forward", p.ack, packetRuns, xdpRedirect) }},
		{"restore, Fairlead: TCP flow hit", func() float64 { return p.hit(packetRuns) }},
		{"restore, Fairlead: new TCP flow", func() float64 { return p.make(newRuns) }},
	}
	p.open() // while its first bucket has room, as nearly all flows find it
	p.make(newFill)
	ns := b.measure("packets", packetRounds, subjects)
	restore := ns[1] - ns[0]
	t := table{
		title:   fmt.Sprintf("Nanoseconds per packet (BPF_PROG_TEST_RUN, median of %d rounds)", packetRounds),
		columns: []string{"program", "as run", "without restore", "x look-up"},
		notes: []string{
			"Without restore: less the difference of the first two rows; x look-up compares that.",
			"New flows meet a full flow table: each one evicts two entries.",
		},
	}
	lookup := ns[3] - restore
	for i, s := range subjects {
		if i < 2 {
			t.add(s.name, fmt.Sprintf("%.1f", ns[i]), "", "")
			continue
		}
		own := ns[i] - restore
		t.add(s.name, fmt.Sprintf("%.1f", ns[i]), fmt.Sprintf("%.1f", own), ratio(own, lookup))
	}
	t.targets = []target{{what: "TCP flow hit / one look-up", got: (ns[5] - restore) / lookup, bound: lookupTarget}}
	t.print(b.out)
}
