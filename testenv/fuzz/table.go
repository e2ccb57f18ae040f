package fuzz

import (
	"fmt"

	"fairlead/loader"
	"fairlead/testenv/lbtest"
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

// free frees the place of a key, if it has one.
func (k *kernel) free(w *world, t m.Tuple) error {
	table := k.Own(loader.LBMapFlows)
	_, first, second := w.Home(t)
	for _, at := range []uint32{first, second} {
		row, read := k.w.codec.bucket()
		if err := table.Lookup(at, row); err != nil {
			return fmt.Errorf("read bucket: %w", err)
		}
		for i, e := range read() {
			if e.flow.Key != t {
				continue
			}
			if err := k.disconnect(e); err != nil {
				return err
			}
			k.w.codec.free(row, i) // what else it holds stays
		}
		if err := table.Put(at, row); err != nil {
			return fmt.Errorf("write bucket: %w", err)
		}
	}
	return nil
}

// flows reads the flow table. Faults are what of it the model does not know
// and is wrong.
func (k *kernel) flows(w *world) (flows map[place]m.Flow, faults []string, err error) {
	table := k.Own(loader.LBMapFlows)
	flows = map[place]m.Flow{}
	for row := range table.MaxEntries() {
		bucket, read := k.w.codec.bucket()
		if err := table.Lookup(row, bucket); err != nil {
			return nil, nil, fmt.Errorf("read bucket: %w", err)
		}
		for i, e := range read() {
			if e.stamp.Era == eraFree {
				continue
			}
			at := place{int(row), i}
			flows[at] = e.flow
			if fault := e.misplaced(w, at); fault != "" {
				faults = append(faults, fault)
			}
		}
	}
	locks, err := lbtest.Rows[uint32](k.Maps[loader.LBMapLocks])
	for row, lock := range locks {
		if lock != 0 {
			faults = append(faults, fmt.Sprintf("lock %d was left locked", row))
		}
	}
	return flows, faults, err
}

// misplaced is an entry's fault, or that it stands where it must not.
func (e *entry) misplaced(w *world, at place) string {
	tag, first, second := w.Home(e.flow.Key)
	switch {
	case e.stamp.Era == eraBusy:
		return fmt.Sprintf("the place of %v was left busy", e.flow.Key)
	case e.stamp.Tag != tag || at.Bucket != int(first) && at.Bucket != int(second):
		return fmt.Sprintf("%v has tag %#x in bucket %d, want %#x in %d or %d", e.flow.Key, e.stamp.Tag, at.Bucket, tag, first, second)
	case e.at != at:
		return fmt.Sprintf("%v stands in %v and says %v", e.flow.Key, at, e.at)
	}
	return e.fault
}
