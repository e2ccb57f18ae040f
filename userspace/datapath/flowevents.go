package datapath

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"fairlead/loader"
)

// eventSize is how many bytes an event takes in the ring, with what comes before it.
const eventSize = 8 + int(unsafe.Sizeof(loader.Event{}))

// FlowEvents are what the kernel tells of flows that begin and end. There must be one
// reader at most. Close them; only Stop may be called while another call runs.
type FlowEvents struct {
	reader *ringbuf.Reader
	record ringbuf.Record
}

// OpenFlowEvents begins to read the events of an instance, which may be closed. What
// was told to a reader before this one, and not read, comes first.
func OpenFlowEvents(maps *loader.Maps) (*FlowEvents, error) {
	reader, err := ringbuf.NewReader(maps.Events)
	if err != nil {
		return nil, fmt.Errorf("open events of flows: %w", err)
	}
	return &FlowEvents{reader: reader}, nil
}

// Close ends the reading. What nobody has read is the next reader's.
func (f *FlowEvents) Close() error { return f.reader.Close() }

// Stop ends a Next that waits with [os.ErrClosed], or the next one that would wait.
func (f *FlowEvents) Stop() error { return f.reader.Flush() }

// Waiting returns how many events there are that nobody has read.
func (f *FlowEvents) Waiting() int { return f.reader.AvailableBytes() / eventSize }

// Next returns the next event. Errors wrap [os.ErrDeadlineExceeded] when there is none
// until then, [os.ErrClosed] when there is none and the reading is to stop: as long as
// events wait it looks at neither.
func (f *FlowEvents) Next(deadline time.Time) (e loader.Event, err error) {
	f.reader.SetDeadline(deadline)
	err = f.reader.ReadInto(&f.record)
	if errors.Is(err, ringbuf.ErrFlushed) {
		err = os.ErrClosed
	}
	if err != nil {
		return e, fmt.Errorf("read event of a flow: %w", err)
	}
	if raw := f.record.RawSample; len(raw) == int(unsafe.Sizeof(e)) {
		return *(*loader.Event)(unsafe.Pointer(&raw[0])), nil
	}
	return e, fmt.Errorf("read event of a flow: one of %d bytes", len(f.record.RawSample))
}

// Discard forgets the events that wait.
func (f *FlowEvents) Discard() error {
	for range f.Waiting() {
		if _, err := f.Next(time.Unix(1, 0)); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		}
	}
	return nil
}
