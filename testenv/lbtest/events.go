package lbtest

import (
	"fmt"
	"os"
	syncatomic "sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"fairlead/loader"
)

// recordHeader is what comes before each record of a ring: its length, and where it is.
const recordHeader = 8

// EventRoom returns how many events a ring of so many bytes has room for.
func EventRoom(ring int) int {
	return (ring - 1) / (recordHeader + int(unsafe.Sizeof(loader.Event{})))
}

// Events returns the events that nobody has taken yet, and takes them if it is told to.
func (d *Datapath) Events(take bool) (events []loader.Event, err error) {
	ring := d.Maps[loader.LBMapEvents]
	page, size := os.Getpagesize(), int(ring.MaxEntries())
	read, err := unix.Mmap(ring.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map memory of events: %w", err)
	}
	defer func() { _ = unix.Munmap(read) }()
	written, err := unix.Mmap(ring.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map memory of events: %w", err)
	}
	defer func() { _ = unix.Munmap(written) }()
	from, to := (*uint64)(unsafe.Pointer(&read[0])), syncatomic.LoadUint64((*uint64)(unsafe.Pointer(&written[0])))
	at := syncatomic.LoadUint64(from)
	for ; at < to; at += recordHeader + uint64(unsafe.Sizeof(loader.Event{})) {
		record := page + int(at)&(size-1)
		if n := *(*uint32)(unsafe.Pointer(&written[record])); n != uint32(unsafe.Sizeof(loader.Event{})) {
			return nil, fmt.Errorf("an event of %#x bytes", n)
		}
		events = append(events, *(*loader.Event)(unsafe.Pointer(&written[record+recordHeader])))
	}
	if take {
		syncatomic.StoreUint64(from, at)
	}
	return events, nil
}
