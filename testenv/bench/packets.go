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
	newFill    = 2 * model.DefaultFlowTable
	clientPort = 40000
	// lookupTarget bounds a TCP flow's packet in one-look-up programs.
	lookupTarget = 1.4
)

// newFlows is where the sources of new flows are; see bpf/bench.c.
var newFlows = net.IPNet{IP: net.IPv4(198, 18, 0, 0), Mask: net.CIDRMask(15, 32)}

// A packetBench runs programs on one packet, in the place of the balancer, which
// has services of both families.
type packetBench struct {
	testenv.TB
	host      *testenv.Host
	programs  map[string]*ebpf.Program
	coll      *ebpf.Collection
	live      *ebpf.Program // as attached
	maps      *loader.Maps
	four, six opening
}

// An opening are the packets of one flow, as client and backend send them.
type opening struct{ syn, synAck, ack []byte }

func newOpening(client, service, backend netip.AddrPort) opening {
	frame := func(src, dst netip.AddrPort, flags uint8, ack uint32) []byte {
		return testenv.TCPFrame(testenv.FrameSpec{
			SrcMAC: testenv.MAC(vip), DstMAC: testenv.MAC(vip.Next()), Src: src, Dst: dst, Flags: flags, Ack: ack,
		})
	}
	return opening{
		syn:    frame(client, service, testenv.SYN, 0),
		synAck: frame(backend, client, testenv.SYN|testenv.ACK, 0),
		// It acknowledges the SYN of the answer, or the flow would not be established.
		ack: frame(client, service, testenv.ACK, 1),
	}
}

func newPacketBench(b *bench) *packetBench {
	b.Helper()
	r := testenv.NewRig(b, testenv.RigOptions{Backends: 1, IPv6: true})
	r.Balancer.Do(b, func() error {
		l, err := netlink.LinkByName(r.ClientLinks[0])
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: &newFlows, Gw: r.ClientAddrs[0].AsSlice()})
	})
	k, dir := attach(b.ctx, b, r, bothFamilies(oneService(r, model.TCP, 80, 8080)))
	coll := loadPrograms(b, dir, "run_empty", "run_restore", "run_swap", "run_lookup", "run_forward", "run_hit", "run_new",
		"run_hit_both", "run_restore6", "run_hit6")
	client, backend := r.ClientAddrs[0], r.BackendAddrs[0]
	at := netip.AddrPortFrom
	p := &packetBench{
		TB: b, host: r.Balancer, programs: coll.Programs, coll: coll, live: k.Instance().Program(), maps: k.Maps(),
		four: newOpening(at(client, clientPort), at(vip, 80), at(backend, 8080)),
		six:  newOpening(at(testenv.Six(client), clientPort), at(vip6, 80), at(testenv.Six(backend), 8080)),
	}
	key := loader.FlowKey{
		Saddr: native32(client), Daddr: native32(vip), Sport: native16(clientPort), Dport: native16(80), Proto: 6,
	}
	if err := coll.Maps["table"].Put(key, uint32(xdpTX)); err != nil {
		b.Fatalf("fill table: %v", err)
	}
	return p
}

// open makes a flow, or finds it open already.
func (p *packetBench) open(o opening) {
	p.Helper()
	for _, frame := range [][]byte{o.syn, o.synAck, o.ack} {
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
	p.setTemplate(frame)
	return p.run(p.programs[name], frame, n, want)
}

// setTemplate says what each run begins with.
func (p *packetBench) setTemplate(frame []byte) {
	p.Helper()
	template := make([]byte, p.coll.Variables["template"].Size())
	copy(template, frame)
	set(p, p.coll, "template", template)
}

// hit forwards n packets of one flow by a program.
func (p *packetBench) hit(name string, o opening, n uint32) float64 {
	p.Helper()
	p.open(o)
	return p.counted(func() float64 { return p.repeat(name, o.ack, n, xdpRedirect) }, n, 0)
}

// make makes n flows.
func (p *packetBench) make(n uint32) float64 {
	p.Helper()
	return p.counted(func() float64 { return p.repeat("run_new", p.four.syn, n, xdpRedirect) }, n, n)
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

// A packetRow is a program that is measured, and the place of the row of what only
// restores its packet; 0 of what is compared with nothing.
type packetRow struct {
	name    string
	measure func() float64
	restore int
}

// Places of rows that others are compared with, and of the one with a target.
const (
	restore4 = 1
	lookup   = 3
	flowHit  = 5
	restore6 = 8
)

// rows are what is measured; the first one does nothing.
func (p *packetBench) rows() []packetRow {
	simple := func(name string, o opening) func() float64 {
		return func() float64 { return p.repeat(name, o.ack, packetRuns, xdpTX) }
	}
	hit := func(name string, o opening) func() float64 {
		return func() float64 { return p.hit(name, o, packetRuns) }
	}
	forward := func() float64 { return p.repeat("run_forward", p.four.ack, packetRuns, xdpRedirect) }
	return []packetRow{
		{"nothing", simple("run_empty", p.four), 0},
		restore4: {"restore the packet", simple("run_restore", p.four), 0},
		{"restore, swap MAC addresses", simple("run_swap", p.four), restore4},
		lookup: {"restore, one LRU look-up", simple("run_lookup", p.four), restore4},
		{"restore, look-up, MAC addresses, redirect", forward, restore4},
		flowHit: {"restore, Fairlead: TCP flow hit", hit("run_hit", p.four), restore4},
		{"restore, Fairlead: new TCP flow", func() float64 { return p.make(newRuns) }, restore4},
		{"restore, Fairlead with IPv6: TCP flow hit of IPv4", hit("run_hit_both", p.four), restore4},
		restore6: {"restore a packet of IPv6", simple("run_restore6", p.six), 0},
		{"restore, Fairlead with IPv6: TCP flow hit of IPv6", hit("run_hit6", p.six), restore6},
	}
}

func packets(b *bench) {
	p := newPacketBench(b)
	rows := p.rows()
	subjects := make([]subject, len(rows))
	for i, r := range rows {
		subjects[i] = subject{r.name, r.measure}
	}
	p.open(p.four) // while its first bucket has room, as nearly all flows find it
	p.make(newFill)
	ns := b.measure("packets", packetRounds, subjects)
	own := func(i int) float64 { return ns[i] - (ns[rows[i].restore] - ns[0]) }
	t := table{
		title:   fmt.Sprintf("Nanoseconds per packet (BPF_PROG_TEST_RUN, median of %d rounds)", packetRounds),
		columns: []string{"program", "as run", "without restore", "x look-up"},
		notes: []string{
			"Without restore: less what the restoring program takes more than none; x look-up compares that.",
			"New flows meet a full flow table: each one evicts two entries.",
		},
	}
	for i, r := range rows {
		if r.restore == 0 {
			t.add(r.name, fmt.Sprintf("%.1f", ns[i]), "", "")
			continue
		}
		t.add(r.name, fmt.Sprintf("%.1f", ns[i]), fmt.Sprintf("%.1f", own(i)), ratio(own(i), own(lookup)))
	}
	t.targets = []target{{what: "TCP flow hit / one look-up", got: own(flowHit) / own(lookup), bound: lookupTarget}}
	t.print(b.out)
}
