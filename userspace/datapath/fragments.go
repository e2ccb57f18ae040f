package datapath

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/perf"
	"golang.org/x/sys/unix"

	"fairlead/loader"
)

// The room for fragments that nobody has read yet: for each CPU, for all, and
// for each where the process may lock no more memory.
const (
	fragmentRoom      = 1 << 20
	fragmentRoomAll   = 16 << 20
	leastFragmentRoom = 64 << 10
)

// Fragments are those that came before the first one of their datagram, which
// the kernel cannot hold, on their way to user space and back. While they are
// open, the kernel hands such fragments over instead of dropping them. Close
// them; only Close may be called while another call runs.
type Fragments struct {
	reader *perf.Reader
	fates  *ebpf.Map
	prog   *ebpf.Program
	record perf.Record
}

// OpenFragments begins to take the fragments of an instance, from whoever had
// them before. The instance must stay open.
func OpenFragments(inst *loader.Instance) (*Fragments, error) {
	holds := inst.Maps().Holds
	room := min(fragmentRoom, fragmentRoomAll/int(holds.MaxEntries()))
	reader, err := perf.NewReader(holds, room)
	for err != nil && room > leastFragmentRoom {
		room /= 2
		reader, err = perf.NewReader(holds, room)
	}
	if err != nil {
		return nil, fmt.Errorf("open fragments: %w", err)
	}
	return &Fragments{reader: reader, fates: inst.Maps().Fragments, prog: inst.Program()}, nil
}

// Close ends Next with [os.ErrClosed].
func (f *Fragments) Close() error { return f.reader.Close() }

// Next returns the next frame to hold, the interface that it came in by and the
// datagram of which it is a fragment. No frame says that the first fragment
// of that has come. The frame is valid until the next call. Errors wrap
// [os.ErrDeadlineExceeded] when there is none until then.
func (f *Fragments) Next(deadline time.Time) (of loader.Fragment, ifindex uint32, frame []byte, err error) {
	f.reader.SetDeadline(deadline)
	for {
		if err := f.reader.ReadInto(&f.record); err != nil {
			return of, 0, nil, fmt.Errorf("read fragment: %w", err)
		}
		if f.record.LostSamples != 0 {
			continue // the kernel has dropped and counted them itself
		}
		const before = int(unsafe.Sizeof(loader.Held{}))
		raw := f.record.RawSample
		if len(raw) < before {
			return of, 0, nil, fmt.Errorf("read fragment: a sample of %d bytes", len(raw))
		}
		h := *(*loader.Held)(unsafe.Pointer(&raw[0]))
		if len(raw) < before+int(h.Len) {
			return of, 0, nil, fmt.Errorf("read fragment: a sample of %d bytes for a frame of %d", len(raw), h.Len)
		}
		return h.Key, h.Ifindex, raw[before:][:h.Len], nil
	}
}

// HasFirst reports whether the first fragment of a datagram has come.
func (f *Fragments) HasFirst(of loader.Fragment) (bool, error) {
	var fate loader.Fate
	err := f.fates.Lookup(&of, &fate)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for first fragment: %w", err)
	}
	return fate.Verdict != uint8(loader.LBVerdictHOLD_FRAGMENT), nil
}

// GiveBack lets a frame come in by an interface again.
func (f *Fragments) GiveBack(ifindex uint32, frame []byte) error {
	_, err := f.prog.Run(&ebpf.RunOptions{
		Data: frame, Repeat: 1, BatchSize: 1, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		Context: struct{ Data, DataEnd, DataMeta, Ingress, Queue, Egress uint32 }{DataEnd: uint32(len(frame)), Ingress: ifindex},
	})
	if err != nil {
		return fmt.Errorf("give fragment back: %w", err)
	}
	return nil
}
