package lbtest

import (
	"math/bits"
	"net/netip"

	"fairlead/loader"
)

// Where keys stand in the flow table of the tables' world.
const (
	hashA = 0x9e3779b97f4a7c15
	hashB = 0xc2b2ae3d27d4eb4f
)

// An entry is one of the flow table, as rivals are too.
type entry struct {
	Flow  loader.Flow
	Stamp loader.LBStamp
}

// life is a stamp's, of a flow without FINs.
func life(dir loader.LBFlowDir, state loader.LBFlowState) uint8 {
	return uint8(dir) | uint8(state)<<3
}

// A spot is where a key may stand.
type spot struct {
	first, second uint32
	tag           uint16
}

// hashOf is rule 8, in words of its own.
func hashOf(k loader.FlowKey) uint64 {
	g := (uint64(k.Saddr)|uint64(k.Daddr)<<32)*hashA + (uint64(k.Sport)|uint64(k.Dport)<<16|uint64(k.Proto)<<32)*hashB
	return (g ^ g>>32) * hashB
}

func spotOf(k loader.FlowKey) spot {
	h := hashOf(k)
	tag := uint16(h >> 16)
	first := uint32(h >> (65 - bits.Len32(buckets)))
	return spot{first, (first + uint32(tag|1)) % buckets, tag}
}

// bucket changes a bucket of the flow table.
func (w *world) bucket(at uint32, edit func(*loader.LBBucket)) {
	w.tb.Helper()
	var b loader.LBBucket
	w.must(w.Maps[loader.LBMapFlows].Lookup(at, &b))
	edit(&b)
	w.put(loader.LBMapFlows, at, &b)
}

// putFlow makes e an entry, in the place of the one with its key, else in a
// free one of the first bucket.
func (w *world) putFlow(e entry) {
	w.tb.Helper()
	s := spotOf(e.Flow.Key)
	w.bucket(s.first, func(b *loader.LBBucket) {
		at := -1
		for i, stamp := range b.Stamps {
			if stamp.Era == 0 && at < 0 || stamp.Era != 0 && b.Places[i].Key == e.Flow.Key {
				at = i
			}
		}
		if at < 0 {
			w.tb.Fatalf("no place in bucket %d", s.first)
		}
		e.Flow.Bucket, e.Flow.Place, e.Stamp.Tag = s.first, uint8(at), s.tag
		b.Places[at], b.Stamps[at] = e.Flow, e.Stamp
	})
}

// deleteFlow deletes the entry of a tuple; a fault may have done so already.
func (w *world) deleteFlow(proto uint8, src, dst netip.AddrPort) {
	w.tb.Helper()
	key := flowKey(proto, src, dst)
	for at := range uint32(buckets) {
		w.bucket(at, func(b *loader.LBBucket) {
			for i := range b.Places {
				if b.Places[i].Key == key {
					b.Stamps[i].Era = 0
				}
			}
		})
	}
}

// crowd fills the places that are free in a bucket with entries of strangers.
func (w *world) crowd(at uint32, edit func(*entry)) {
	w.tb.Helper()
	w.bucket(at, func(b *loader.LBBucket) {
		for i := range b.Places {
			if b.Stamps[i].Era != 0 {
				continue
			}
			e := entry{
				Flow: loader.Flow{
					Key: loader.FlowKey{Saddr: at, Sport: uint16(i), Proto: 99}, Checked: now, Idle: tcpOpen, Epoch: 1,
					Bucket: at, Place: uint8(i),
				},
				Stamp: loader.LBStamp{Seen: now, Era: 3},
			}
			edit(&e)
			b.Places[i], b.Stamps[i] = e.Flow, e.Stamp
		}
	})
}

// crowded fills both buckets of the client's flow to a service, or one.
func crowded(to netip.AddrPort, first, second bool, edit func(*entry)) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		s := spotOf(flowKey(tcp, client, to))
		if first {
			w.crowd(s.first, edit)
		}
		if second {
			w.crowd(s.second, edit)
		}
	}
}

// What strangers are like.
func state(s loader.LBFlowState, silent uint32) func(*entry) {
	return func(e *entry) { e.Stamp.Life, e.Stamp.Seen = life(0, s), now-silent }
}

// ofUDP is a UDP flow that looks like a dialogue.
func ofUDP(silent uint32) func(*entry) {
	return func(e *entry) {
		state(loader.LBFlowStateFLOW_ESTABLISHED, silent)(e)
		e.Stamp.Life |= 0x40 // LIFE_UDP
	}
}

func ofAnotherEra(e *entry) { e.Stamp.Era = 2 }

// expired is a stranger that does not count any more, but was in use.
func expired(e *entry) {
	state(loader.LBFlowStateFLOW_ESTABLISHED, 60*hz)(e)
	e.Flow.Checked = now - 60*hz
}

// tableRows are about places in the flow table: rule 8.
func tableRows() []row {
	const (
		established = loader.LBFlowStateFLOW_ESTABLISHED
		unanswered  = loader.LBFlowStateFLOW_NEW
		lasting     = 60 * hz
	)
	hello := segment(client, web, syn)
	full := func(name string, given func(*world)) row {
		return row{name: name, given: given, want: loader.LBVerdictDROP_TABLE_FULL, frame: hello}
	}
	opens := row{want: loader.LBVerdictFORWARD_REDIRECT, frame: hello, out: toBackend(back1, syn), egress: uplink, counts: made("2", 48)}
	evicts := func(kind string) row {
		r := opens
		r.counts = made("2", 48)
		r.counts["evicted "+kind] = 1
		return r
	}
	all := func(edit func(*entry)) func(*world) { return crowded(web, true, true, edit) }
	twinless := func(edit func(*entry)) func(*world) {
		return func(w *world) {
			w.tb.Helper()
			s := spotOf(flowKey(tcp, back1, client))
			w.crowd(s.first, edit)
			w.crowd(s.second, edit)
		}
	}
	return []row{
		full("flows in use keep their places", all(state(established, 10))),
		full("flows that are silent a little less than a minute keep their places", all(state(established, lasting-1))),
		full("entries of this tick keep their places", all(state(unanswered, 0))),
		full("a twin without a place undoes its flow", twinless(state(established, 10))),
		opens.as("the second bucket has a place", crowded(web, true, false, state(established, 10))),
		opens.as("entries of another era give way", all(ofAnotherEra)),
		opens.as("an entry that does not count is not evicted, but replaced", all(expired)),
		evicts("unanswered").as("a flow that nobody has answered gives way", all(state(unanswered, 1))),
		evicts("unanswered").as("a flow that is only answered gives way", all(state(loader.LBFlowStateFLOW_ANSWERED, 1))),
		evicts("ended").as("a flow that has ended gives way", all(state(loader.LBFlowStateFLOW_CLOSED, 1))),
		evicts("ended").as("a flow that was reset gives way", all(state(loader.LBFlowStateFLOW_ABORTED_REPLY, 1))),
		evicts("silent").as("a flow that is silent for a minute gives way", all(state(established, lasting))),
		full("a UDP flow that is silent for a little less than a second keeps its place", all(ofUDP(hz-1))),
		evicts("silent").as("a UDP flow that is silent for a second gives way", all(ofUDP(hz))),
		forwarded(ack).as("an entry in the second bucket is found",
			then(crowded(web, true, false, state(established, 10)), answered)),
		forwarded(ack).as("the oldest gives way, not a younger one", youngerSurvives),
	}
}

// youngerSurvives has an unanswered flow among others, of which one is older,
// and another client that needs a place.
func youngerSurvives(w *world) {
	w.tb.Helper()
	opened(w)
	s := spotOf(flowKey(tcp, client, web))
	rival, at := client, spot{}
	for at.first != s.first {
		rival = netip.AddrPortFrom(rival.Addr(), rival.Port()+1)
		at = spotOf(flowKey(tcp, rival, web))
	}
	w.crowd(at.second, state(loader.LBFlowStateFLOW_ESTABLISHED, 0))
	old := uint32(5)
	w.crowd(at.first, func(e *entry) {
		state(loader.LBFlowStateFLOW_ESTABLISHED, 0)(e)
		if old > 0 {
			state(loader.LBFlowStateFLOW_NEW, old)(e)
		}
		old = 0
	})
	w.at(now + 1)
	w.send(segment(rival, web, syn))
}
