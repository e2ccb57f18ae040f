package fuzz

import (
	"fmt"

	"github.com/cilium/ebpf"

	"fairlead/loader"
	m "fairlead/testenv/refmodel"
)

const (
	eraFree = uint8(loader.LBSpecialEraERA_FREE)
	eraBusy = uint8(loader.LBSpecialEraERA_BUSY)
)

// A place is one of the flow table.
type place struct{ Bucket, Index int }

// flows are the entries of the table by place.
func (w *world) flows() map[place]m.Flow {
	fs := map[place]m.Flow{}
	for b, bucket := range w.table() {
		for i, f := range bucket {
			if f != nil {
				fs[place{b, i}] = *f
			}
		}
	}
	return fs
}

// buckets reads the whole flow table.
func (k *kernel) buckets() ([]loader.LBBucket, error) {
	return readArray[loader.LBBucket](k.Maps[loader.LBMapFlows])
}

// readArray reads all of an array.
func readArray[T any](table *ebpf.Map) ([]T, error) {
	var cursor ebpf.MapBatchCursor
	rows := make([]uint32, table.MaxEntries())
	values := make([]T, len(rows))
	n, err := table.BatchLookup(&cursor, rows, values, nil)
	if err != nil && !isNotExist(err) {
		return nil, fmt.Errorf("read %v: %w", table, err)
	}
	if n != len(rows) {
		return nil, fmt.Errorf("read %v: %d rows of %d", table, n, len(rows))
	}
	return values, nil
}

// clear makes all places free.
func (k *kernel) clear() error {
	table := k.Maps[loader.LBMapFlows]
	rows := make([]uint32, table.MaxEntries())
	for i := range rows {
		rows[i] = uint32(i)
	}
	if _, err := table.BatchUpdate(rows, make([]loader.LBBucket, len(rows)), nil); err != nil {
		return fmt.Errorf("clear flows: %w", err)
	}
	return nil
}

// free frees the place of a key, if it has one.
func (k *kernel) free(w *world, t m.Tuple) error {
	table := k.Maps[loader.LBMapFlows]
	_, first, second := w.Home(t)
	for _, row := range []uint32{first, second} {
		var b loader.LBBucket
		if err := table.Lookup(row, &b); err != nil {
			return fmt.Errorf("read bucket: %w", err)
		}
		for i := range b.Places {
			if b.Places[i].Key == keyOf(t) {
				b.Stamps[i].Era = eraFree // what else it holds stays
			}
		}
		if err := table.Put(row, b); err != nil {
			return fmt.Errorf("write bucket: %w", err)
		}
	}
	return nil
}

// flows reads the flow table. Faults are what of it the model does not know
// and is wrong.
func (k *kernel) flows(w *world) (flows map[place]m.Flow, faults []string, err error) {
	buckets, err := k.buckets()
	if err != nil {
		return nil, nil, err
	}
	flows = map[place]m.Flow{}
	for row, b := range buckets {
		for i, stamp := range b.Stamps {
			if stamp.Era == eraFree {
				continue
			}
			f, fault := flowFrom(stamp, b.Places[i])
			if at := (place{int(b.Places[i].Bucket), int(b.Places[i].Place)}); at != (place{row, i}) {
				fault = fmt.Sprintf("%v stands in %v and says %v", f.Key, place{row, i}, at)
			}
			if tag, first, second := w.Home(f.Key); stamp.Tag != tag || uint32(row) != first && uint32(row) != second {
				fault = fmt.Sprintf("%v has tag %#x in bucket %d, want %#x in %d or %d", f.Key, stamp.Tag, row, tag, first, second)
			}
			if stamp.Era == eraBusy {
				fault = fmt.Sprintf("the place of %v was left busy", f.Key)
			}
			if fault != "" {
				faults = append(faults, fault)
			}
			flows[place{row, i}] = f
		}
	}
	locks, err := readArray[uint32](k.Maps[loader.LBMapLocks])
	for row, lock := range locks {
		if lock != 0 {
			faults = append(faults, fmt.Sprintf("lock %d was left locked", row))
		}
	}
	return flows, faults, err
}
