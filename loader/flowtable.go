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
	place *LBFlow
}

// Each calls yield with every entry of the table, two of each flow, until it
// returns false. Entries that come or go meanwhile may be missed.
func (t *FlowTable) Each(yield func(Entry) bool) {
	for b := range t.buckets {
		for p := range t.buckets[b].Places {
			place := &t.buckets[b].Places[p]
			if f, ok := place.read(); ok && !yield(Entry{f, place}) {
				return
			}
		}
	}
}

// Free frees the place of an entry, unless the entry has had a packet, or has
// gone, since e was read: it does what the kernel does, and reports whether it
// did.
func (t *FlowTable) Free(e Entry) bool {
	free := stamp(e.Seen, uint32(LBSpecialEraERA_FREE))
	return atomic.CompareAndSwapUint64(e.place.stamp(), stamp(e.Seen, e.Era), free)
}

// flowWords is the size of an entry in words of the machine.
const flowWords = unsafe.Sizeof(LBFlow{}) / 8

// read returns what is in a place, unless that is no entry. A stamp that has
// not changed in between says that the rest is the entry's too. Every word is
// loaded atomically for the sake of the order.
func (f *LBFlow) read() (Flow, bool) {
	var words [flowWords]uint64
	from := (*[flowWords]uint64)(unsafe.Pointer(f))
	for {
		before := atomic.LoadUint64(f.stamp())
		switch era := LBSpecialEra(before >> 32); era {
		case LBSpecialEraERA_FREE, LBSpecialEraERA_BUSY:
			return Flow{}, false
		}
		for i := range from {
			words[i] = atomic.LoadUint64(&from[i])
		}
		if atomic.LoadUint64(f.stamp()) == before {
			return *(*Flow)(unsafe.Pointer(&words)), true
		}
	}
}

// stamp returns the address of seen and era, which change as one.
func (f *LBFlow) stamp() *uint64 { return (*uint64)(unsafe.Pointer(&f.Seen)) }

// stamp returns seen and era as the one number that they are in memory. Objects
// are for little-endian machines only.
func stamp(seen, era uint32) uint64 { return uint64(seen) | uint64(era)<<32 }

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
