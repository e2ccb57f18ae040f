package main

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/livegen"
	"fairlead/userspace/model"
)

const (
	frameRounds = 9
	// frameRuns makes the 10 ms that the kernel takes to begin with live
	// frames, of which there are two in a run, small.
	frameRuns = 1 << 20
	frameFlow = 1000 // flows that the frames belong to
	framePort = 20000
	// Targets, as shares of the reference.
	redirectTarget = 0.9
	nftablesTarget = 4
)

// A road is a rig of its own on which frames go from a generator on the client
// through one way of forwarding to a sink on the backend.
type road struct {
	testenv.TB
	rig     *testenv.Rig
	gen     *livegen.Generator
	arrived *ebpf.Map
}

// newRoad builds a road on which nothing forwards but the balancer's stack.
func newRoad(b *bench) *road {
	b.Helper()
	r := &road{TB: b, rig: testenv.NewRig(b, testenv.RigOptions{Backends: 1})}
	coll := loadPrograms(b, "", "sink")
	r.arrived = coll.Maps["arrived"]
	r.rig.Backends[0].AttachXDP(b, testenv.Uplink, coll.Programs["sink"])
	pin := cpu()
	r.gen = livegen.New(b, livegen.Options{
		Host: r.rig.Clients[0], Iface: testenv.Uplink, CPU: &pin, Vary: livegen.Vary{Ports: frameFlow},
		Frame: testenv.UDPFrame(testenv.FrameSpec{
			Src: netip.AddrPortFrom(r.rig.ClientAddrs[0], framePort), Dst: netip.AddrPortFrom(vip, 53),
			DstMAC:  testenv.MAC(r.rig.ClientAddrs[0].Prev()),
			Payload: make([]byte, 18), // 60 bytes, the least that Ethernet carries
		}),
	})
	return r
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
	for i := range uint16(frameFlow) {
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
	took                time.Duration
}

// send sends n frames and waits for those that arrive.
func (r *road) send(n int) passage {
	r.Helper()
	before := r.count()
	sent, err := r.gen.Send(n)
	if err != nil {
		r.Fatalf("%v", err)
	}
	arrived := r.count() - before
	for quiet := time.Now(); arrived < sent.Sent && time.Since(quiet) < 100*time.Millisecond; {
		time.Sleep(time.Millisecond)
		if now := r.count() - before; now > arrived {
			arrived, quiet = now, time.Now()
		}
	}
	return passage{sent: sent.Sent, lost: sent.Lost, arrived: arrived, took: sent.Took}
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

// rate sends n frames and returns how many arrived in a second.
func (r *road) rate(n int) float64 {
	r.Helper()
	p := r.send(n)
	if p.arrived == 0 {
		r.Fatalf("none of %d frames arrived", p.sent)
	}
	return float64(p.arrived) / p.took.Seconds()
}

func frames(b *bench) {
	fairlead, _ := fairleadRoad(b)
	subjects := []subject{
		{"bare redirect", redirectRoad(b, "redirect").on(frameRuns)},
		{"one LRU look-up, redirect", redirectRoad(b, "lookup_redirect").on(frameRuns)},
		{"Fairlead", fairlead.on(frameRuns)},
		{"nftables DNAT", nftablesRoad(b).on(frameRuns / 4)},
	}
	rates := b.measure("frames", frameRounds, subjects)
	t := table{
		title: fmt.Sprintf("Live frames per second on one core (%d UDP flows, 60-byte frames, median of %d rounds)",
			frameFlow, frameRounds),
		columns: []string{"forwarded by", "million/s", "x redirect", "x look-up", "x nftables"},
		targets: []target{
			{what: "Fairlead / bare redirect", got: rates[2] / rates[0], bound: redirectTarget, atLeast: true},
			{what: "Fairlead / nftables DNAT", got: rates[2] / rates[3], bound: nftablesTarget, atLeast: true},
		},
		notes: []string{"The core makes, forwards and receives the frames."},
	}
	for i, s := range subjects {
		t.add(s.name, fmt.Sprintf("%.2f", rates[i]/1e6), ratio(rates[i], rates[0]), ratio(rates[i], rates[1]), ratio(rates[i], rates[3]))
	}
	t.print(b.out)
}

// on returns what measures the rate with n frames.
func (r *road) on(n int) func() float64 {
	return func() float64 { return r.rate(n) }
}
