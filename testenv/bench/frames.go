package main

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/livegen"
	"fairlead/userspace/model"
)

const (
	frameRounds = 15
	frameRuns   = 1 << 18
	framePort   = 20000
	manyFlows   = 1000
	// Targets, as shares of the reference.
	redirectTarget = 0.9
	nftablesTarget = 4
)

// A road is a rig of its own on which frames go from a generator on the client
// through one way of forwarding to a sink on the backend.
type road struct {
	testenv.TB
	rig       *testenv.Rig
	one, many *livegen.Generator // of frames of one flow, of many
	arrived   *ebpf.Map
}

// newRoad builds a road on which nothing forwards but the balancer's stack.
func newRoad(b *bench) *road {
	b.Helper()
	r := &road{TB: b, rig: testenv.NewRig(b, testenv.RigOptions{Backends: 1})}
	coll := loadPrograms(b, "", "sink")
	r.arrived = coll.Maps["arrived"]
	r.rig.Backends[0].AttachXDP(b, testenv.Uplink, coll.Programs["sink"])
	r.one, r.many = r.generator(1), r.generator(manyFlows)
	return r
}

// generator returns what sends frames of n flows.
func (r *road) generator(n uint32) *livegen.Generator {
	r.Helper()
	pin := cpu()
	return livegen.New(r, livegen.Options{
		Host: r.rig.Clients[0], Iface: testenv.Uplink, CPU: &pin, Vary: livegen.Vary{Ports: n},
		Frame: testenv.UDPFrame(testenv.FrameSpec{
			Src: netip.AddrPortFrom(r.rig.ClientAddrs[0], framePort), Dst: netip.AddrPortFrom(vip, 53),
			DstMAC:  testenv.MAC(r.rig.ClientAddrs[0].Prev()),
			Payload: make([]byte, 18), // 60 bytes, the least that Ethernet carries
		}),
	})
}

// redirectRoad attaches a program of bpf/bench.c that redirects to the backend.
func redirectRoad(b *bench, program string) *road {
	b.Helper()
	r := newRoad(b)
	var out uint32
	r.rig.Balancer.Do(b, func() error {
		l, err := netlink.LinkByName(r.rig.BackendLinks[0])
		if err == nil {
			out = uint32(l.Attrs().Index)
		}
		return err
	})
	coll := loadPrograms(b, "", program)
	set(b, coll, "out", out)
	for i := range uint16(manyFlows) {
		key := loader.FlowKey{
			Saddr: native32(r.rig.ClientAddrs[0]), Daddr: native32(vip),
			Sport: native16(framePort + i), Dport: native16(53), Proto: model.UDP.Number(),
		}
		if err := coll.Maps["table"].Put(key, out); err != nil {
			b.Fatalf("fill table: %v", err)
		}
	}
	r.rig.Balancer.AttachXDP(b, r.rig.ClientLinks[0], coll.Programs[program])
	return r
}

// fairleadRoad attaches the datapath.
func fairleadRoad(b *bench) (*road, *loader.Maps) {
	b.Helper()
	r := newRoad(b)
	k, _ := attach(b.ctx, b, r.rig, oneService(r.rig, model.UDP, 53, 5353))
	return r, k.Maps()
}

// nftablesRoad has the stack translate addresses.
func nftablesRoad(b *bench) *road {
	b.Helper()
	r := newRoad(b)
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`table ip bench {
	chain prerouting {
		type nat hook prerouting priority dstnat
		ip daddr %s udp dport 53 dnat to %s:5353
	}
}
`, vip, r.rig.BackendAddrs[0]))
	if out, err := r.rig.Balancer.CombinedOutput(cmd); err != nil {
		b.Fatalf("load rules: %v\n%s", err, out)
	}
	return r
}

// A passage is what became of the frames of one run.
type passage struct {
	sent, lost, arrived int
	took                time.Duration // of the core's time
}

// send sends n frames and waits for those that arrive.
func (r *road) send(g *livegen.Generator, n int) passage {
	r.Helper()
	count, begin := r.count(), r.coreTime()
	sent, err := g.Send(n)
	if err != nil {
		r.Fatalf("%v", err)
	}
	arrived := r.count() - count
	for quiet := time.Now(); arrived < sent.Sent && time.Since(quiet) < 100*time.Millisecond; {
		time.Sleep(time.Millisecond)
		if now := r.count() - count; now > arrived {
			arrived, quiet = now, time.Now()
		}
	}
	return passage{sent: sent.Sent, lost: sent.Lost, arrived: arrived, took: r.coreTime() - begin}
}

// coreTime returns how long this process and the thread that takes over when
// frames are too many have run: of what a core does meanwhile, all that the
// frames cause and little that they do not.
func (r *road) coreTime() time.Duration {
	r.Helper()
	own, err := cpuTime(unix.CLOCK_PROCESS_CPUTIME_ID)
	if err != nil {
		r.Fatalf("%v", err)
	}
	softirqs, err := softirqTime(cpu())
	if err != nil {
		r.Fatalf("%v", err)
	}
	return own + softirqs
}

func (r *road) count() int {
	r.Helper()
	var cpus []uint64
	if err := r.arrived.Lookup(uint32(0), &cpus); err != nil {
		r.Fatalf("count frames: %v", err)
	}
	var sum uint64
	for _, n := range cpus {
		sum += n
	}
	return int(sum)
}

// rate sends n frames and returns how many arrived in a second of the core.
func (r *road) rate(g *livegen.Generator, n int) float64 {
	r.Helper()
	p := r.send(g, n)
	if p.arrived == 0 {
		r.Fatalf("none of %d frames arrived", p.sent)
	}
	return float64(p.arrived) / p.took.Seconds()
}

func frames(b *bench) {
	fairlead, _ := fairleadRoad(b)
	roads := []struct {
		name string
		road *road
		runs int
	}{
		{"bare redirect", redirectRoad(b, "redirect"), frameRuns},
		{"one LRU look-up, redirect", redirectRoad(b, "lookup_redirect"), frameRuns},
		{"Fairlead", fairlead, frameRuns},
		{"nftables DNAT", nftablesRoad(b), frameRuns / 4},
	}
	var subjects []subject
	for _, r := range roads {
		subjects = append(subjects,
			subject{r.name + ", one flow", func() float64 { return r.road.rate(r.road.one, r.runs) }},
			subject{r.name + ", many flows", func() float64 { return r.road.rate(r.road.many, r.runs) }})
	}
	rates := b.measure("frames", frameRounds, subjects)
	for k, flows := range []string{"one UDP flow", fmt.Sprintf("%d UDP flows", manyFlows)} {
		t := table{
			title:   fmt.Sprintf("Live frames per second of one core, %s (60-byte frames, median of %d rounds)", flows, frameRounds),
			columns: []string{"forwarded by", "million/s", "x redirect", "x look-up", "x nftables"},
			notes:   []string{"The core makes, forwards and receives the frames."},
		}
		at := func(i int) float64 { return rates[2*i+k] }
		for i, r := range roads {
			t.add(r.name, fmt.Sprintf("%.2f", at(i)/1e6), ratio(at(i), at(0)), ratio(at(i), at(1)), ratio(at(i), at(3)))
		}
		t.targets = []target{
			{what: "Fairlead / bare redirect", got: at(2) / at(0), bound: redirectTarget, atLeast: true},
			{what: "Fairlead / nftables DNAT", got: at(2) / at(3), bound: nftablesTarget, atLeast: true},
		}
		t.print(b.out)
	}
}
