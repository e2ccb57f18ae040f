package loader

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A FlowTable is the flow table in memory; docs/datapath.md, rule 8, says how it
// is made. It is safe for concurrent use until it is closed.
type FlowTable struct {
	memory  []byte
	buckets []LBBucket
}

// OpenFlowTable maps the memory of a flow table, and of nothing else: a map of
// another shape is refused. The caller closes the table.
func OpenFlowTable(flows *ebpf.Map) (*FlowTable, error) {
	if flows.Type() != ebpf.Array || flows.ValueSize() != uint32(unsafe.Sizeof(LBBucket{})) {
		return nil, fmt.Errorf("map memory of flows: %v of %d bytes is no flow table", flows.Type(), flows.ValueSize())
	}
	n := int(flows.MaxEntries())
	memory, err := mapMemory(flows, n*int(unsafe.Sizeof(LBBucket{})))
	if err != nil {
		return nil, fmt.Errorf("map memory of flows: %w", err)
	}
	return &FlowTable{memory, unsafe.Slice((*LBBucket)(unsafe.Pointer(&memory[0])), n)}, nil
}

// FlowTable maps the memory of the flow table, which takes a millisecond for
// each 20 MB or so. The caller closes it.
func (m *Maps) FlowTable() (*FlowTable, error) { return OpenFlowTable(m.Flows) }

// FlowRoom returns how many flows the table is made for: each takes two
// entries, which then are three quarters of its places.
func (m *Maps) FlowRoom() uint32 { return m.Flows.MaxEntries() * bucketFlows }

// bucketFlows is how many flows there may be for each bucket.
const bucketFlows = uint32(len(LBBucket{}.Places)) * 3 / 4 / 2

// Close releases the memory.
func (t *FlowTable) Close() error { return unix.Munmap(t.memory) }

// An Entry is one direction of a flow, as it was when it was read.
type Entry struct {
	Flow
	Stamp
	at *uint64 // the stamp in the table
}

// Each calls yield with every entry of the table, two of each flow, until it
// returns false. Entries that come or go meanwhile may be missed.
func (t *FlowTable) Each(yield func(Entry) bool) {
	var e Entry
	for i := range t.buckets {
		b := &t.buckets[i]
		for p := range b.Places {
			if b.read(p, &e) && !yield(e) {
				return
			}
		}
	}
}

// Free frees the place of an entry, unless the entry has changed, had a packet
// in another tick, or gone since e was read: it does what the kernel does, and
// reports whether it did.
func (t *FlowTable) Free(e Entry) bool {
	free := e.Stamp
	free.Era = uint8(LBSpecialEraERA_FREE)
	return atomic.CompareAndSwapUint64(e.at, e.word(), free.word())
}

// flowWords is the size of an entry in words of the machine.
const flowWords = unsafe.Sizeof(LBFlow{}) / 8

// read sets e to what is in a place, unless that is no entry. A stamp that has
// not changed in between says that the rest is its entry's. Every word is loaded
// atomically for the sake of the order.
func (b *LBBucket) read(place int, e *Entry) bool {
	from, to := b.Places[place].words(), e.words()
	e.at = b.Stamps[place].at()
	for {
		before := atomic.LoadUint64(e.at)
		e.Stamp = stampOf(before)
		switch LBSpecialEra(e.Era) {
		case LBSpecialEraERA_FREE, LBSpecialEraERA_BUSY:
			return false
		}
		for i := range from {
			to[i] = atomic.LoadUint64(&from[i])
		}
		if atomic.LoadUint64(e.at) == before {
			return true
		}
	}
}

// words returns the memory of an entry.
func (f *LBFlow) words() *[flowWords]uint64 { return (*[flowWords]uint64)(unsafe.Pointer(f)) }

// at returns the memory of a stamp in the table, which changes as one word.
func (s *LBStamp) at() *uint64 { return (*uint64)(unsafe.Pointer(s)) }

// word returns a stamp as it is in memory. Objects are for little-endian
// machines only.
func (s *LBStamp) word() uint64 {
	return uint64(s.Seen) | uint64(s.Tag)<<32 | uint64(s.Era)<<48 | uint64(s.Life)<<56
}

// stampOf is the reverse of word.
func stampOf(word uint64) Stamp {
	return Stamp{Seen: uint32(word), Tag: uint16(word >> 32), Era: uint8(word >> 48), Life: uint8(word >> 56)}
}

// Dir says which way the entry's packets go.
func (s *LBStamp) Dir() LBFlowDir { return LBFlowDir(s.Life & 1) }

// State says how far the flow is.
func (s *LBStamp) State() LBFlowState { return LBFlowState(s.Life >> 3 & 7) }

// Over says that the flow has come to its end: nobody waits for it.
func (s *LBStamp) Over() bool { return s.State() >= LBFlowStateFLOW_CLOSED }

// countFlows returns the number of entries of a flow table, be it one of this
// version's or a hash, as older ones had.
func countFlows(m *ebpf.Map) (n uint64, err error) {
	if t, err := OpenFlowTable(m); err == nil {
		t.Each(func(Entry) bool { n++; return true })
		return n, t.Close()
	}
	if m.Type() != ebpf.LRUHash && m.Type() != ebpf.Hash {
		return 0, nil // nobody knows what is in it
	}
	var key, value []byte
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		n++
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return 0, err
	}
	return min(n, uint64(m.MaxEntries())), nil
}
