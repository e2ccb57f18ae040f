// Package fuzz compares the XDP program with the reference model on random
// packets under random configurations.
//
// A run consists of episodes. Each starts from an empty flow table and a
// configuration of its own, whose services are all of IPv4 or all of IPv6, then
// changes configuration, clock and surroundings between packets. Every packet's action, bytes and egress must be the same on
// both sides, and at the end of an episode all counters, turns and flows. An
// episode follows from its seed alone and can be replayed in parts.
package fuzz

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	m "fairlead/testenv/refmodel"
)

// A target is a datapath that is compared with the model.
type target interface {
	// reset takes over a world that has no flows.
	reset(w *world) error
	// sync takes over one change that was applied to w.
	sync(w *world, c change) error
	// run takes one packet. The frame is not kept.
	run(frame []byte, linear int) (m.Result, error)
	// state is everything that packets have changed since reset.
	state() (state, error)
	// cuts says whether the linear part of a frame can be chosen.
	cuts() bool
}

// A state is what packets change.
type state struct {
	Flows           map[place]m.Flow
	Turns           []uint64
	Random          uint32
	BackendCounters []m.Counters
	Connected       []uint32 // by row of backends, then of services
	Verdicts        []uint64
	Evictions       []uint64
	Replies         m.Replies
	Sources         map[m.Source]m.Credit
	Ties            map[m.Source]m.Tie
	Syns            []m.Syns
	Fragments       map[m.FragmentKey]m.Fate
	Held, Told      uint64
	Events          []m.Event
	EventCounts     []uint64
	Faults          []string // what must not be, whatever the model says
}

func (w *world) state() state {
	return state{
		Flows: w.flows(), Turns: w.Turns, Random: w.random, BackendCounters: w.BackendCounters, Connected: w.connected(),
		Verdicts: w.Verdicts[:], Evictions: w.Evictions[:], Replies: w.Replies, Sources: w.Sources, Ties: w.Ties,
		Syns: w.Syns, Fragments: w.Fragments, Held: w.Held, Told: w.Told, Events: w.Events, EventCounts: w.EventCounts[:],
	}
}

// equal says that packets have changed the same.
func (s state) equal(t state) bool {
	return maps.Equal(s.Flows, t.Flows) && slices.Equal(s.Turns, t.Turns) && slices.Equal(s.Verdicts, t.Verdicts) &&
		slices.Equal(s.Evictions, t.Evictions) && slices.Equal(s.BackendCounters, t.BackendCounters) &&
		slices.Equal(s.Connected, t.Connected) && s.Replies == t.Replies && s.Random == t.Random && maps.Equal(s.Sources, t.Sources) && maps.Equal(s.Ties, t.Ties) && slices.Equal(s.Syns, t.Syns) && maps.Equal(s.Fragments, t.Fragments) &&
		s.Held == t.Held && s.Told == t.Told && slices.Equal(s.Events, t.Events) && slices.Equal(s.EventCounts, t.EventCounts) && slices.Equal(s.Faults, t.Faults)
}

// episodeLen is the number of packets from one clean state to the next.
const episodeLen = 500

// An item is a change or, if change is nil, a packet.
type item struct {
	change *change
	frame  []byte
	linear int
}

// A histogram counts what the model has seen of a family.
type histogram struct {
	packets   int // of whole episodes
	verdicts  [m.VerdictMax]uint64
	evictions [m.EvictMax]uint64
	events    [m.EventDeleted + 1]uint64 // by kind; the first are those that were lost
	places    [2]uint64                  // entries in the first and in the second bucket of their keys
	errors    uint64                     // ICMP errors that were forwarded
	laters    uint64                     // later fragments that were forwarded
	ports     uint64                     // flows that leave with another port than the client's
	sources   uint64                     // flows that leave with a source of our own
}

// add counts a world at its end.
func (h *histogram) add(w *world) {
	for v, n := range w.Verdicts {
		h.verdicts[v] += n
	}
	for kind, n := range w.Evictions {
		h.evictions[kind] += n
	}
	for _, e := range w.Events {
		h.events[e.Kind]++
	}
	h.events[0] += w.EventCounts[m.EventsBegunLost] + w.EventCounts[m.EventsEndedLost]
	for at, f := range w.flows() {
		if _, first, _ := w.Home(f.Key); at.Bucket == int(first) {
			h.places[0]++
		} else {
			h.places[1]++
		}
	}
}

// merge counts what another one has counted.
func (h *histogram) merge(o *histogram) {
	for v, n := range o.verdicts {
		h.verdicts[v] += n
	}
	for kind, n := range o.evictions {
		h.evictions[kind] += n
	}
	for kind, n := range o.events {
		h.events[kind] += n
	}
	for at, n := range o.places {
		h.places[at] += n
	}
	h.packets += o.packets
	h.errors += o.errors
	h.laters += o.laters
	h.ports += o.ports
	h.sources += o.sources
}

// flow counts one that was made.
func (h *histogram) flow(f *m.Flow) {
	switch {
	case f.Leave.Src != f.Key.Src:
		h.sources++
	case f.Leave.SPort != f.Key.SPort:
		h.ports++
	}
}

// fuzzer compares a target with the model.
type fuzzer struct {
	target  target
	seed    uint64
	shrinks bool // whether to look for a short way to a difference
	packets int  // sent so far
	// families are those that worlds may have.
	families []*family
	seen     map[*family]*histogram
}

// newFuzzer sends packets to worlds of these families.
func newFuzzer(target target, seed uint64, families ...*family) *fuzzer {
	f := &fuzzer{target: target, seed: seed, families: families, seen: map[*family]*histogram{}}
	for _, family := range families {
		f.seen[family] = &histogram{}
	}
	return f
}

// run sends n packets. It returns the first difference, nil if there is none.
func (f *fuzzer) run(n int) (*difference, error) {
	return f.work(&queue{packets: n})
}

// work sends the episodes that it gets of a queue, up to the first difference.
func (f *fuzzer) work(q *queue) (*difference, error) {
	for {
		episode, size := q.take()
		if size == 0 {
			return nil, nil
		}
		d, err := f.episode(episode, size)
		if err != nil {
			err = fmt.Errorf("episode %d: %w", episode, err)
		}
		if d != nil || err != nil {
			q.failed.Store(true)
			return d, err
		}
		f.packets += size
		q.sent.Add(int64(size))
	}
}

func (f *fuzzer) world(episode uint64) *world {
	r := rand.New(rand.NewPCG(f.seed, 2*episode))
	return newWorld(r, pick(r, f.families))
}

// episode sends size packets under a configuration of their own.
func (f *fuzzer) episode(episode uint64, size int) (*difference, error) {
	w := f.world(episode)
	g := newGenerator(rand.New(rand.NewPCG(f.seed, 2*episode+1)), w, f.target.cuts())
	return f.play(episode, w, g, size)
}

// A source is what an episode is made of.
type source interface {
	// changes are those before the next packet.
	changes() []change
	// packet is the next frame, and how much of it is linear.
	packet() (frame []byte, linear int)
	// learn is told what became of it.
	learn(frame []byte, res m.Result)
}

// play sends size packets of g. w is the episode's world.
func (f *fuzzer) play(episode uint64, w *world, g source, size int) (*difference, error) {
	if err := f.target.reset(w); err != nil {
		return nil, fmt.Errorf("reset target: %w", err)
	}
	seen := f.seen[w.whole()]
	var items []item
	for range size {
		for _, c := range g.changes() {
			items = append(items, item{change: &c})
			if err := f.apply(w, &c); err != nil {
				return nil, err
			}
		}
		frame, linear := g.packet()
		items = append(items, item{frame: frame, linear: linear})
		before := w.made()
		text, res, err := f.packet(w, frame, linear)
		if err != nil {
			return nil, err
		}
		if text != "" {
			return f.pin(episode, items, text)
		}
		t, _, ok := w.read(frame)
		_, later := w.readFragment(frame)
		switch {
		case isForward(res.Verdict) && later:
			seen.laters++
		case isForward(res.Verdict) && !ok:
			seen.errors++
		}
		if w.made() != before {
			seen.flow(w.Find(t))
		}
		g.learn(frame, res)
	}
	text, err := f.states(w)
	if err != nil {
		return nil, err
	}
	if text != "" {
		return f.pin(episode, items, text)
	}
	seen.add(w)
	seen.packets += size
	return nil, nil
}

func (f *fuzzer) apply(w *world, c *change) error {
	c.apply(w)
	if err := f.target.sync(w, *c); err != nil {
		return fmt.Errorf("apply %s: %w", c.text, err)
	}
	return nil
}

// packet sends one packet through both sides. Text tells how they differ.
func (f *fuzzer) packet(w *world, frame []byte, linear int) (text string, want m.Result, err error) {
	want = w.Process(frame, linear)
	got, err := f.target.run(frame, linear)
	if err != nil {
		return "", want, fmt.Errorf("run packet %x: %w", frame, err)
	}
	if !same(got, want) {
		text = fmt.Sprintf("model:  action %d, egress %d, %s: %s\n        %x\ntarget: action %d, egress %d: %s\n        %x",
			want.Action, want.Egress, want.Verdict, describe(want.Out), want.Out,
			got.Action, got.Egress, describe(got.Out), got.Out)
	}
	return text, want, nil
}

// same says that two results look the same from outside.
func same(a, b m.Result) bool {
	return a.Action == b.Action && a.Egress == b.Egress && bytes.Equal(a.Out, b.Out)
}

// states compares what packets have changed.
func (f *fuzzer) states(w *world) (string, error) {
	got, err := f.target.state()
	if err != nil {
		return "", fmt.Errorf("read state: %w", err)
	}
	want := w.state()
	if got.equal(want) {
		return "", nil
	}
	return "state (-model +target):\n" + cmp.Diff(want, got, cmpopts.EquateComparable(m.Addr{})), nil
}
