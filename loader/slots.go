package loader

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A SlotsView is the slots map in memory: rows of backends by slot.
//
// It is safe for concurrent use and stays valid, though without effect on later
// maps, when the Instance it came from is closed.
type SlotsView struct {
	// The kernel gives every value of an array eight bytes. The row is in the
	// lower half: objects are for little-endian machines only.
	words []uint64
}

func newSlotsView(m *ebpf.Map) (*SlotsView, error) {
	n := int(m.MaxEntries())
	memory, err := mapMemory(m, n*8)
	if err != nil {
		return nil, err
	}
	v := &SlotsView{unsafe.Slice((*uint64)(unsafe.Pointer(&memory[0])), n)}
	runtime.AddCleanup(v, func(b []byte) { _ = unix.Munmap(b) }, memory)
	return v, nil
}

// Len returns the number of slots.
func (v *SlotsView) Len() int { return len(v.words) }

// Load returns the row of backends in slot i, which must be below Len.
func (v *SlotsView) Load(i int) uint32 {
	defer runtime.KeepAlive(v)
	return uint32(atomic.LoadUint64(&v.words[i]))
}

// Store puts a row of backends into slot i, which must be below Len.
func (v *SlotsView) Store(i int, row uint32) {
	atomic.StoreUint64(&v.words[i], uint64(row))
	runtime.KeepAlive(v)
}
