package loader

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Mode is the switch that every packet's way begins with.
type Mode uint32

// The modes.
const (
	ModeOff      = Mode(LBControlModeMODE_OFF)      // every packet passes
	ModeDraining = Mode(LBControlModeMODE_DRAINING) // known flows go on, new ones are the proxy's
	ModeOn       = Mode(LBControlModeMODE_ON)
)

// String returns "off", "draining" or "on".
func (m Mode) String() string {
	switch m {
	case ModeOff:
		return "off"
	case ModeDraining:
		return "draining"
	case ModeOn:
		return "on"
	}
	return fmt.Sprintf("unknown_%d", uint32(m))
}

// A ControlView is the control map in memory: what it stores, the next packet
// sees, without a system call.
//
// It is safe for concurrent use and stays valid, though without effect on a
// later instance, when the Instance it came from is closed.
type ControlView struct{ c *Control }

func newControlView(m *ebpf.Map) (*ControlView, error) {
	memory, err := mapMemory(m, int(unsafe.Sizeof(Control{})))
	if err != nil {
		return nil, err
	}
	v := &ControlView{(*Control)(unsafe.Pointer(&memory[0]))}
	runtime.AddCleanup(v, func(b []byte) { _ = unix.Munmap(b) }, memory)
	return v, nil
}

// mapMemory maps the first n bytes of an mmapable array, rounded up to pages.
func mapMemory(m *ebpf.Map, n int) ([]byte, error) {
	page := os.Getpagesize()
	return unix.Mmap(m.FD(), 0, (n+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// load and store keep v, and so the memory, until they are done.
func (v *ControlView) load(p *uint32) uint32 {
	defer runtime.KeepAlive(v)
	return atomic.LoadUint32(p)
}

func (v *ControlView) store(p *uint32, n uint32) {
	atomic.StoreUint32(p, n)
	runtime.KeepAlive(v)
}

// Mode returns the switch.
func (v *ControlView) Mode() Mode { return Mode(v.load(&v.c.Mode)) }

// SetMode throws the switch. Leaving [ModeOff] starts a new era first: flows
// from before count as absent. Only one process at a time may do that.
func (v *ControlView) SetMode(m Mode) {
	if v.Mode() == ModeOff && m != ModeOff {
		v.store(&v.c.Era, nextEra(v.Era()))
	}
	v.store(&v.c.Mode, uint32(m))
}

// nextEra returns the era after another one, of those that control may have.
func nextEra(era uint32) uint32 {
	if era >= uint32(LBSpecialEraERA_LAST) {
		return uint32(LBSpecialEraERA_MIN)
	}
	return era + 1
}

// Era returns the number of the flow era.
func (v *ControlView) Era() uint32 { return v.load(&v.c.Era) }

// Epoch returns the number that flows are checked under.
func (v *ControlView) Epoch() uint32 { return v.load(&v.c.Epoch) }

// BumpEpoch makes the next packet of every flow check its way, and returns the
// new epoch.
func (v *ControlView) BumpEpoch() uint32 {
	defer runtime.KeepAlive(v)
	return atomic.AddUint32(&v.c.Epoch, 1)
}

// Hz returns the ticks in a second.
func (v *ControlView) Hz() uint32 { return v.load(&v.c.Hz) }

// Idle returns the time-out of a flow state, indexed by the LBIdle constants.
func (v *ControlView) Idle(i LBIdle) time.Duration {
	ticks, hz := v.load(&v.c.Idle[i]), v.Hz()
	if hz == 0 {
		return 0
	}
	return time.Duration(ticks) * time.Second / time.Duration(hz)
}

// SetIdle sets the time-out of a flow state, rounded up to a tick.
func (v *ControlView) SetIdle(i LBIdle, d time.Duration) {
	ticks := math.Ceil(d.Seconds() * float64(v.Hz()))
	v.store(&v.c.Idle[i], uint32(min(ticks, math.MaxInt32)))
}

// ReplyLimit returns how many resets and ICMP errors each CPU sends in a second.
func (v *ControlView) ReplyLimit() uint32 { return v.load(&v.c.ReplyLimit) }

// SetReplyLimit sets it.
func (v *ControlView) SetReplyLimit(n uint32) {
	v.store(&v.c.ReplyLimit, n)
}

// SourcePorts returns the range of source ports of full-NAT flows.
func (v *ControlView) SourcePorts() (first, last uint16) {
	word := v.load(v.sourcePorts())
	ports := *(*[2]uint16)(unsafe.Pointer(&word))
	return ports[0], ports[0] + ports[1] - 1
}

// SetSourcePorts sets it, in one store.
func (v *ControlView) SetSourcePorts(first, last uint16) {
	ports := [2]uint16{first, last - first + 1}
	v.store(v.sourcePorts(), *(*uint32)(unsafe.Pointer(&ports)))
}

// MixedPorts returns the source ports of flows from clients of IPv6 to backends
// of IPv4: n of them.
func (v *ControlView) MixedPorts() (first, n uint16) {
	word := v.load(v.mixedPorts())
	ports := *(*[2]uint16)(unsafe.Pointer(&word))
	return ports[0], ports[1]
}

// SetMixedPorts sets them, in one store.
func (v *ControlView) SetMixedPorts(first, n uint16) {
	ports := [2]uint16{first, n}
	v.store(v.mixedPorts(), *(*uint32)(unsafe.Pointer(&ports)))
}

// mixedPorts is where both are: MixedPort and MixedPorts.
func (v *ControlView) mixedPorts() *uint32 { return (*uint32)(unsafe.Pointer(&v.c.MixedPort)) }

// sourcePorts is where both ends of the range are: SnatPort and SnatPorts.
func (v *ControlView) sourcePorts() *uint32 { return (*uint32)(unsafe.Pointer(&v.c.SnatPort)) }

// Beat says that the agent is alive now.
func (v *ControlView) Beat() {
	atomic.StoreUint64(&v.c.Heartbeat, monotonic())
	runtime.KeepAlive(v)
}

// SinceBeat returns the age of the last [ControlView.Beat]; ok is false if
// there was none since the instance was made.
func (v *ControlView) SinceBeat() (age time.Duration, ok bool) {
	defer runtime.KeepAlive(v)
	beat := atomic.LoadUint64(&v.c.Heartbeat)
	if beat == 0 {
		return 0, false
	}
	return time.Duration(monotonic() - beat), true
}

// LossAfter returns the silence after which every backend counts as up; 0: never.
func (v *ControlView) LossAfter() time.Duration {
	defer runtime.KeepAlive(v)
	return time.Duration(atomic.LoadUint64(&v.c.LossAfter))
}

// SetLossAfter sets it.
func (v *ControlView) SetLossAfter(d time.Duration) {
	atomic.StoreUint64(&v.c.LossAfter, uint64(d))
	runtime.KeepAlive(v)
}

// init gives a new control map what it never changes again.
func (v *ControlView) init() error {
	hz, err := kernelHz()
	if err != nil {
		return err
	}
	v.store(&v.c.Hz, hz)
	for _, hash := range []*uint64{&v.c.HashA, &v.c.HashB, &v.c.HashC, &v.c.HashD, &v.c.HashE} {
		var random [8]byte
		_, _ = rand.Read(random[:]) // never fails
		atomic.StoreUint64(hash, binary.NativeEndian.Uint64(random[:])|1)
	}
	runtime.KeepAlive(v)
	return nil
}

// monotonic returns CLOCK_MONOTONIC in ns, the clock of bpf_ktime_get_ns.
func monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	return uint64(ts.Nano())
}

// kernelHz returns the number of jiffies in a second: a coarse clock moves once
// per jiffy.
func kernelHz() (uint32, error) {
	var ts unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_REALTIME_COARSE, &ts); err != nil {
		return 0, fmt.Errorf("ask for length of a jiffy: %w", err)
	}
	return uint32(math.Round(1e9 / float64(ts.Nano()))), nil
}
