package fuzz

import (
	"math/rand/v2"
	"testing"

	"fairlead/testenv"
	m "fairlead/testenv/refmodel"
)

const (
	churnBuckets = 8
	churnSources = 32
	churnClients = 200
	churnPackets = 40_000
)

// churn is a service of full NAT with far more clients than sources, and a
// table that has fewer places than they need.
type churn struct {
	*fuzzer
	w      *world
	g      *generator
	r      *rand.Rand
	filled int // packets after which no place was free
}

func newChurn(t *testing.T, f *family, seed uint64) *churn {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 3))
	w := raceWorld(f, 1, churnBuckets)
	w.Control.Hz = 4
	w.Control.Idle = [m.IdleMax]uint32{40, 1200, 40, 40, 400}
	w.Control.SnatPort, w.Control.SnatPorts = 30000, churnSources/2
	w.Services[0].Flags = m.FlagFullNAT
	w.Backends[0].Sources = m.Run{Length: 2}
	c := &churn{fuzzer: newFuzzer(newKernel(t, 0), seed, f), w: w, g: newGenerator(r, w, false), r: r}
	if err := c.target.reset(w); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestChurn lets clients come, go on and fall silent. No two flows may send
// with one source.
func TestChurn(t *testing.T) {
	testenv.PinThread(t)
	for seed, family := range []*family{&ipv4, &ipv4, &ipv6} {
		c := newChurn(t, family, uint64(seed))
		for range churnPackets {
			c.step(t)
		}
		text, err := c.states(c.w)
		if err != nil || text != "" {
			t.Fatal(text, err)
		}
		if made := c.w.made(); made < 10*churnSources || c.filled < churnPackets/10 {
			t.Errorf("%d flows were made, and the table was full %d times: too few", made, c.filled)
		}
		t.Logf("%d flows, no place was free after %d packets, evictions %v", c.w.made(), c.filled, c.w.Evictions)
	}
}

// step is one packet of a client or its backend, a little later.
func (c *churn) step(t *testing.T) {
	t.Helper()
	wait := c.r.Uint32N(2)
	if oneIn(c.r, 200) {
		wait = c.r.Uint32N(62 * c.w.Control.Hz)
	}
	change := setNow(c.w.Now + wait)
	if err := c.apply(c.w, &change); err != nil {
		t.Fatal(err)
	}
	key := m.Tuple{Src: c.w.clients[0], SPort: uint16(1000 + c.r.IntN(churnClients)), Dst: c.w.vips[0], DPort: 80, Proto: m.TCP}
	if f := c.w.Find(key); f != nil && oneIn(c.r, 2) {
		key = f.TwinKey()
	}
	frame := c.g.build(key)
	frame[ethLen+c.w.ttl] = 64 // TTL
	text, res, err := c.packet(c.w, frame, len(frame))
	if err != nil || text != "" {
		t.Fatal(text, err)
	}
	if len(c.w.flows()) == churnBuckets*8 {
		c.filled++
	}
	c.check(t, key, res)
}

// check looks for two owners of a source.
func (c *churn) check(t *testing.T, key m.Tuple, res m.Result) {
	t.Helper()
	owners := map[m.Tuple]m.Flow{}
	for _, f := range c.w.flows() {
		if f.Dir != m.Forward || f.State != m.FlowEstablished || c.w.Now-f.Checked >= c.w.Control.Hz {
			continue // its next packet is checked
		}
		if other, taken := owners[f.Leave]; taken {
			t.Fatalf("at %d two flows have one source:\n%+v\n%+v", c.w.Now, f, other)
		}
		owners[f.Leave] = f
	}
	f := c.w.Find(key)
	if !isForward(res.Verdict) || f == nil || f.Dir == m.Reply || f.State == m.FlowEstablished {
		return
	}
	if twin := c.w.Find(f.TwinKey()); twin != nil && twin.TwinKey() != key {
		t.Fatalf("at %d a packet left with another flow's source:\n%+v\n%+v", c.w.Now, f, twin)
	}
}
