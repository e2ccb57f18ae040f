package refmodel

import (
	"encoding/binary"
	"math/bits"
)

// bucketPlaces is how many entries a bucket holds.
const bucketPlaces = 8

// A Table is a flow table of rule 8: buckets of places, nil where one is
// free. The number of buckets is a power of two, at least 2. There is no
// ERA_BUSY, because nobody else is looking.
type Table [][bucketPlaces]*Flow

// An Eviction is a kind of entry that gave its place to another: index of
// Model.Evictions.
type Eviction int

// Kinds, numbered as enum eviction.
const (
	EvictUnanswered Eviction = iota
	EvictEnded
	EvictSilent
	EvictMax
)

var evictionNames = [EvictMax]string{"EVICT_UNANSWERED", "EVICT_ENDED", "EVICT_SILENT"}

// String is the kind's name in types.h.
func (e Eviction) String() string { return evictionNames[e] }

// insertion is what became of an entry that was to be inserted.
type insertion int

const (
	made insertion = iota
	exists
	full
)

// hash is the hash of a key.
func (m *Model) hash(key Tuple) uint64 {
	le, c := binary.LittleEndian, &m.Control
	src, dst := key.Src.AsSlice(), key.Dst.AsSlice()
	rest := uint64(bits.ReverseBytes16(key.SPort)) | uint64(bits.ReverseBytes16(key.DPort))<<16 | uint64(key.Proto)<<32
	var g uint64
	if key.Src.Is4() {
		addrs := uint64(le.Uint32(src)) | uint64(le.Uint32(dst))<<32
		g = addrs*c.HashA + rest*c.HashB
	} else {
		g = be.Uint64(src)*c.HashA + be.Uint64(src[8:])*c.HashB +
			be.Uint64(dst)*c.HashC + be.Uint64(dst[8:])*c.HashD + rest*c.HashE
	}
	return (g ^ g>>32) * c.HashB
}

// table is that of a key's family.
func (m *Model) table(key Tuple) Table {
	if key.Src.Is4() {
		return m.Flows
	}
	return m.Flows6
}

// Home is where a key may stand: in either bucket, with the tag.
func (m *Model) Home(key Tuple) (tag uint16, first, second uint32) {
	h := m.hash(key)
	size := uint(len(m.table(key)))
	n := bits.Len(size) - 1
	tag = uint16(h >> 16)
	first = uint32(h >> (64 - n))
	second = (first + uint32(tag|1)) % uint32(size)
	return tag, first, second
}

// places are those that a key may take, in the order of the search.
func (m *Model) places(key Tuple) []**Flow {
	table := m.table(key)
	if len(table) == 0 {
		return nil
	}
	_, first, second := m.Home(key)
	var ps []**Flow
	for _, b := range []uint32{first, second} {
		for i := range table[b] {
			ps = append(ps, &table[b][i])
		}
	}
	return ps
}

// Find is the entry of a key, nil if there is none. It need not count.
func (m *Model) Find(key Tuple) *Flow {
	for _, place := range m.places(key) {
		if f := *place; f != nil && f.Key == key {
			return f
		}
	}
	return nil
}

// Remove frees the place of a key, if it has one.
func (m *Model) Remove(key Tuple) {
	for _, place := range m.places(key) {
		if f := *place; f != nil && f.Key == key {
			*place = nil
		}
	}
}

// insert adds an entry if there is none by then.
func (m *Model) insert(f Flow) insertion {
	if rival, ok := m.Rivals[f.Key]; ok {
		if old := m.Find(f.Key); old != nil {
			m.gone(old, EventDeleted)
			m.came(&rival)
			*old = rival
		} else {
			m.put(rival)
		}
	}
	return m.put(f)
}

// put is the insertion of rule 8.
func (m *Model) put(f Flow) insertion {
	if m.Find(f.Key) != nil {
		return exists
	}
	var best **Flow
	var bestRank rank
	var bestAge uint32
	for _, place := range m.places(f.Key) {
		rank, age := m.rank(*place)
		if best == nil || rank < bestRank || rank == bestRank && age > bestAge {
			best, bestRank, bestAge = place, rank, age
		}
	}
	if bestRank == kept {
		return full
	}
	if old := *best; old != nil {
		why := EventDeleted
		if m.counts(old) {
			why = EventEvicted
			m.Evictions[evictionOf(old)]++
		}
		m.gone(old, why)
	}
	m.came(&f)
	*best = &f
	return made
}

// rank says how good a place is for another entry: the lower, the better.
type rank int

const (
	free     rank = iota // or of another era
	restless             // of a flow that has not begun or is over
	unproven             // of any other UDP flow
	silent               // of any other flow
	kept                 // not to be had
)

// rank is the rank of a place, and the age by which it is compared with others
// of the same rank.
func (m *Model) rank(f *Flow) (rank, uint32) {
	if f == nil || f.Era != m.Control.Era {
		return free, 0
	}
	age := m.age(f.Seen)
	switch {
	case evictionOf(f) != EvictSilent && age >= 1:
		return restless, age
	case evictionOf(f) == EvictSilent && f.Key.Proto == UDP && age >= m.Control.Hz:
		return unproven, age
	case evictionOf(f) == EvictSilent && f.Key.Proto == TCP && age >= 60*m.Control.Hz:
		return silent, age
	}
	return kept, 0
}

// evictionOf is what the eviction of an entry counts as.
func evictionOf(f *Flow) Eviction {
	switch {
	case f.State == FlowNew || f.State == FlowAnswered:
		return EvictUnanswered
	case f.over():
		return EvictEnded
	}
	return EvictSilent
}
