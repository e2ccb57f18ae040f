package loader

import (
	"errors"
	"unsafe"

	"github.com/cilium/ebpf"
)

// carryCounters makes the sums of the instance in dir exact after it has taken
// the place of the one in from: rows that still have the same owner go on
// where the old maps, which nobody counts in any more, ended. When back is set,
// dir is the older one again: its rows are added what was counted meanwhile.
//
// Going forward it may be done again: it sets bases, from maps that stay.
func carryCounters(dir, from string, back bool) error {
	to, err := loadMaps(dir)
	if err != nil {
		return err
	}
	defer to.close()
	old, err := loadMaps(from)
	if err != nil {
		return err
	}
	defer old.close()
	same, err := sameMap(to.BackendCounters, old.BackendCounters)
	if err != nil || same || !to.canCount() || !old.canCount() {
		return err
	}
	o, err := readOwners(old, to)
	if err == nil && back {
		err = o.carryBack(to, old)
	} else if err == nil {
		err = o.carry(to, old)
	}
	return wrap(err, "carry counters")
}

// canCount reports whether all maps that make sums are there, and of this
// version.
func (m *Maps) canCount() bool {
	for _, t := range []struct {
		m    *ebpf.Map
		size uintptr
	}{
		{m.Services, unsafe.Sizeof(Service{})}, {m.Backends, unsafe.Sizeof(Backend{})},
		{m.BackendCounters, unsafe.Sizeof(Counters{})}, {m.BackendBase, unsafe.Sizeof(Counters{})},
		{m.ServiceBase, unsafe.Sizeof(serviceBase{})},
	} {
		if t.m == nil || t.m.ValueSize() != uint32(t.size) {
			return false
		}
	}
	return true
}

// owners are the rows of two instances, one of which has taken the place of the
// other. Rows of the same generation have the same owner.
type owners struct {
	from, to struct {
		services []Service
		backends []Backend
	}
}

func readOwners(from, to *Maps) (*owners, error) {
	o := &owners{}
	var err error
	if o.from.services, err = ReadArray[Service](from.Services); err != nil {
		return nil, err
	}
	if o.from.backends, err = ReadArray[Backend](from.Backends); err != nil {
		return nil, err
	}
	if o.to.services, err = ReadArray[Service](to.Services); err != nil {
		return nil, err
	}
	o.to.backends, err = ReadArray[Backend](to.Backends)
	return o, err
}

func (o *owners) sameService(row uint32) bool {
	n := uint32(min(len(o.from.services), len(o.to.services)))
	return row < n && o.from.services[row].Gen == o.to.services[row].Gen
}

// sameBackend reports whether a row of backends, and that of its service, have
// the same owners.
func (o *owners) sameBackend(row int) bool {
	return row < len(o.from.backends) && row < len(o.to.backends) &&
		o.from.backends[row].Gen == o.to.backends[row].Gen && o.sameService(o.from.backends[row].Service)
}

// carry sets the bases of to to what old has counted. What rows counted that
// have a new owner goes to their service, as if it were folded.
func (o *owners) carry(to, old *Maps) error {
	t, err := old.readTally()
	if err != nil {
		return err
	}
	var errs []error
	t.each(func(row int, b *Backend, sum Counters) {
		if o.sameBackend(row) {
			errs = append(errs, to.BackendBase.Put(uint32(row), sum))
		} else {
			t.bases[b.Service].add(sum)
		}
	})
	for row := range t.bases {
		if o.sameService(uint32(row)) {
			errs = append(errs, to.ServiceBase.Put(uint32(row), serviceBase{Counters: t.bases[row].Counters}))
		}
	}
	return errors.Join(errs...)
}

// carryBack adds what old has counted to the bases of to.
func (o *owners) carryBack(to, old *Maps) error {
	sums, err := sumCounters(old.BackendCounters, nil)
	if err != nil {
		return err
	}
	for row, sum := range sums {
		if !o.sameBackend(row) {
			continue
		}
		var base Counters
		if err := to.BackendBase.Lookup(uint32(row), &base); err != nil {
			return err
		}
		base.add(sum)
		if err := to.BackendBase.Put(uint32(row), base); err != nil {
			return err
		}
	}
	return nil
}
