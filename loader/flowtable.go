package loader

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A FlowTable is a flow table in memory, or those of both families;
// docs/datapath.md, rule 8, says how it is made. It is safe for concurrent use
// until it is closed.
type FlowTable struct {
	parts []tablePart
	// What of [Maps] counts connections; nothing with [OpenFlowTable].
	ofBackends, ofServices connections
}

// A tablePart is the table of one family.
type tablePart struct {
	memory  []byte
	buckets int
	size    uintptr // of a bucket, in bytes
}

// OpenFlowTable maps the memory of flow tables, and of nothing else: a map of
// another shape is refused. The caller closes the table.
func OpenFlowTable(tables ...*ebpf.Map) (*FlowTable, error) {
	t := &FlowTable{}
	for _, m := range tables {
		p, err := openPart(m)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("map memory of flows: %w", err), t.Close())
		}
		t.parts = append(t.parts, p)
	}
	return t, nil
}

func openPart(m *ebpf.Map) (p tablePart, err error) {
	p.size, p.buckets = uintptr(m.ValueSize()), int(m.MaxEntries())
	if m.Type() != ebpf.Array || p.size != unsafe.Sizeof(LBBucket{}) && !p.ipv6() {
		return p, fmt.Errorf("%v of %d bytes is no flow table", m.Type(), p.size)
	}
	p.memory, err = mapMemory(m, p.buckets*int(p.size))
	return p, err
}

func (p *tablePart) ipv6() bool { return p.size == unsafe.Sizeof(LB6Bucket{}) }

// FlowTable maps the memory of the flow tables, which takes a millisecond for
// each 20 MB or so. The caller closes it.
func (m *Maps) FlowTable() (*FlowTable, error) {
	maps := []*ebpf.Map{m.Flows}
	if m.Flows6 != nil {
		maps = append(maps, m.Flows6)
	}
	t, err := OpenFlowTable(maps...)
	if err != nil {
		return nil, err
	}
	if t.ofBackends, err = openConnections(m.BackendConns); err == nil {
		t.ofServices, err = openConnections(m.ServiceConns)
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// FlowRoom returns how many flows the table of IPv4 is made for: each takes two
// entries, which then are three quarters of its places.
func (m *Maps) FlowRoom() uint32 { return m.Flows.MaxEntries() * bucketFlows }

// FlowRoom6 is the same of IPv6; 0 without it.
func (m *Maps) FlowRoom6() uint32 {
	if m.Flows6 == nil {
		return 0
	}
	return m.Flows6.MaxEntries() * bucketFlows
}

// bucketPlaces is how many entries a bucket has, bucketFlows how many flows
// there may be for each.
const (
	bucketPlaces = len(LBBucket{}.Places)
	bucketFlows  = uint32(bucketPlaces) * 3 / 4 / 2
)

// Close releases the memory.
func (t *FlowTable) Close() error {
	errs := []error{t.ofBackends.close(), t.ofServices.close()}
	for _, p := range t.parts {
		errs = append(errs, unix.Munmap(p.memory))
	}
	return errors.Join(errs...)
}

// An Entry is one direction of a flow, as it was when it was read. IPv4 addresses
// in it are mapped into IPv6: an [Address] has them as they are.
type Entry struct {
	Flow6
	Stamp
	at   *uint64 // the stamp in the table
	wide bool    // it stands in the table of IPv6
}

// Each calls yield with every entry of the table, two of each flow, until it
// returns false. Entries that come or go meanwhile may be missed.
func (t *FlowTable) Each(yield func(Entry) bool) {
	var e Entry
	for i := range t.parts {
		p := &t.parts[i]
		for at := range p.buckets * bucketPlaces {
			if p.read(at, &e) && !yield(e) {
				return
			}
		}
	}
}

// Free frees the place of an entry, unless the entry has changed, had a packet
// in another tick, or gone since e was read: it does what the kernel does, and
// reports whether it did. Connections are counted if the table is [Maps.FlowTable]'s.
func (t *FlowTable) Free(e Entry) bool {
	free := e.Stamp
	free.Era = uint8(LBSpecialEraERA_FREE)
	if !atomic.CompareAndSwapUint64(e.at, e.word(), free.word()) {
		return false
	}
	t.disconnect(&e)
	return true
}

// place returns the memory of an entry, and that of its stamp. Bucket by bucket,
// the stamps come first.
func (p *tablePart) place(at int) (stamp *uint64, flow []uint64) {
	bucket := unsafe.Pointer(&p.memory[uintptr(at/bucketPlaces)*p.size])
	i, stamps := uintptr(at%bucketPlaces), unsafe.Sizeof(LBBucket{}.Stamps)
	size := (p.size - stamps) / uintptr(bucketPlaces)
	return (*uint64)(unsafe.Add(bucket, i*8)), unsafe.Slice((*uint64)(unsafe.Add(bucket, stamps+i*size)), size/8)
}

// read sets e to what is in a place, unless that is no entry. A stamp that has
// not changed in between says that the rest is its entry's. Every word is loaded
// atomically for the sake of the order.
func (p *tablePart) read(at int, e *Entry) bool {
	var raw [unsafe.Sizeof(LB6Flow{}) / 8]uint64
	stamp, from := p.place(at)
	e.at, e.wide = stamp, p.ipv6()
	for {
		before := atomic.LoadUint64(stamp)
		e.Stamp = stampOf(before)
		switch LBSpecialEra(e.Era) {
		case LBSpecialEraERA_FREE, LBSpecialEraERA_BUSY:
			return false
		}
		for i := range from {
			raw[i] = atomic.LoadUint64(&from[i])
		}
		if atomic.LoadUint64(stamp) == before {
			break
		}
	}
	if p.ipv6() {
		e.Flow6 = *(*Flow6)(unsafe.Pointer(&raw))
	} else {
		e.Flow6 = widened((*Flow)(unsafe.Pointer(&raw)))
	}
	return true
}

// widened returns an entry of IPv4 as one of both families.
func widened(f *Flow) Flow6 {
	return Flow6{
		Key: FlowKey6{
			Saddr: mapped(f.Key.Saddr), Daddr: mapped(f.Key.Daddr),
			Sport: f.Key.Sport, Dport: f.Key.Dport, Proto: f.Key.Proto,
		},
		Saddr: mapped(f.Saddr), Daddr: mapped(f.Daddr), Sport: f.Sport, Dport: f.Dport,
		Checked: f.Checked, Epoch: f.Epoch, Hop: f.Hop, L4Delta: f.L4Delta, IpDelta: f.IpDelta,
		Service: f.Service, ServiceGen: f.ServiceGen, Backend: f.Backend, BackendGen: f.BackendGen,
		Idle: f.Idle, Answer: f.Answer, Bucket: f.Bucket, Place: f.Place,
	}
}

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

// Where the state is in the life of a stamp.
const (
	stateShift = 3
	stateMask  = 7
)

// State says how far the flow is.
func (s *LBStamp) State() LBFlowState { return LBFlowState(s.Life >> stateShift & stateMask) }

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
