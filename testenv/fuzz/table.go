package fuzz

import (
	"fmt"

	"github.com/cilium/ebpf"

	"fairlead/loader"
	m "fairlead/testenv/refmodel"
)

const (
	eraFree = uint32(loader.LBSpecialEraERA_FREE)
	eraBusy = uint32(loader.LBSpecialEraERA_BUSY)
)

// A place is one of the flow table.
type place struct{ Bucket, Index int }

// flows are the entries of the table by place.
func (w *world) flows() map[place]m.Flow {
	fs := map[place]m.Flow{}
	for b, bucket := range w.Flows {
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
	table := k.Maps[loader.LBMapFlows]
	var cursor ebpf.MapBatchCursor
	rows := make([]uint32, table.MaxEntries())
	buckets := make([]loader.LBBucket, len(rows))
	n, err := table.BatchLookup(&cursor, rows, buckets, nil)
	if err != nil && !isNotExist(err) {
		return nil, fmt.Errorf("read flows: %w", err)
	}
	if n != len(rows) {
		return nil, fmt.Errorf("read flows: %d buckets of %d", n, len(rows))
	}
	return buckets, nil
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
				b.Places[i].Era = eraFree // what else it holds stays
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
		if b.Lock != 0 || b.Pad != [7]uint32{} {
			faults = append(faults, fmt.Sprintf("bucket %d: lock %d, padding %v", row, b.Lock, b.Pad))
		}
		for i, raw := range b.Places {
			if raw.Era == eraFree {
				continue
			}
			f, fault := flowFrom(raw)
			if tag, first, second := w.Home(f.Key); b.Tags[i] != tag || uint32(row) != first && uint32(row) != second {
				fault = fmt.Sprintf("%v has tag %#x in bucket %d, want %#x in %d or %d", f.Key, b.Tags[i], row, tag, first, second)
			}
			if raw.Era == eraBusy {
				fault = fmt.Sprintf("the place of %v was left busy", f.Key)
			}
			if fault != "" {
				faults = append(faults, fault)
			}
			flows[place{row, i}] = f
		}
	}
	return flows, faults, nil
}
