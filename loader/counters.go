package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// A Table is one of the two tables of counters.
type Table string

// The tables.
const (
	TableServices Table = "service"
	TableBackends Table = "backend"
)

// counters returns the per-CPU map of a table and its base.
func (m *Maps) counters(t Table) (perCPU, base *ebpf.Map) {
	if t == TableServices {
		return m.ServiceCounters, m.ServiceBase
	}
	return m.BackendCounters, m.BackendBase
}

// ReadCounters returns what was counted for each row of a table: the sum over
// all CPUs, and what was counted before the table grew.
func (m *Maps) ReadCounters(t Table) ([]Counters, error) {
	perCPU, base := m.counters(t)
	sums, err := sumCounters(perCPU, base)
	if err != nil {
		return nil, fmt.Errorf("read counters of %ss: %w", t, err)
	}
	return sums, nil
}

// ResetCounters sets the counters of a row to 0, for a new owner. What is
// counted for the row at the same time may be lost.
func (m *Maps) ResetCounters(t Table, row uint32) error {
	perCPU, base := m.counters(t)
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	if err := perCPU.Put(row, make([]Counters, cpus)); err != nil {
		return fmt.Errorf("reset counters of %s %d: %w", t, row, err)
	}
	if err := base.Put(row, Counters{}); err != nil {
		return fmt.Errorf("reset counters of %s %d: %w", t, row, err)
	}
	return nil
}

// ReadVerdicts returns the number of packets by verdict.
func (m *Maps) ReadVerdicts() ([Verdicts]uint64, error) {
	var sums [Verdicts]uint64
	for v := range sums {
		var each []uint64
		if err := m.Verdicts.Lookup(uint32(v), &each); err != nil {
			return sums, fmt.Errorf("read verdicts: %w", err)
		}
		for _, n := range each {
			sums[v] += n
		}
	}
	return sums, nil
}

// sumCounters returns perCPU summed over CPUs, plus base if there is one, by row.
func sumCounters(perCPU, base *ebpf.Map) ([]Counters, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, err
	}
	sums := make([]Counters, perCPU.MaxEntries())
	if base != nil {
		if err := readArray(base, sums); err != nil {
			return nil, err
		}
	}
	each := make([]Counters, int(perCPU.MaxEntries())*cpus)
	if err := readArray(perCPU, each); err != nil {
		return nil, err
	}
	for i, c := range each {
		sums[i/cpus].add(c)
	}
	return sums, nil
}

// readArray fills values with all values of an array, in order; those of a
// per-CPU array are as many as there are CPUs for each row.
func readArray[T any](m *ebpf.Map, values []T) error {
	var cursor ebpf.MapBatchCursor
	keys := make([]uint32, m.MaxEntries())
	n, err := m.BatchLookup(&cursor, keys, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	if n != len(keys) {
		return fmt.Errorf("read %d of %d rows", n, len(keys))
	}
	return nil
}

// add adds d to c.
func (c *LBCounters) add(d Counters) {
	for dir := range c.Packets {
		c.Packets[dir] += d.Packets[dir]
		c.Bytes[dir] += d.Bytes[dir]
	}
	c.Flows += d.Flows
}

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
	for _, t := range []Table{TableServices, TableBackends} {
		if err := carryTable(t, to, old, back); err != nil {
			return fmt.Errorf("carry counters of %ss: %w", t, err)
		}
	}
	return nil
}

func carryTable(t Table, to, old *Maps, back bool) error {
	counters, base := to.counters(t)
	oldCounters, oldBase := old.counters(t)
	same, err := sameMap(counters, oldCounters)
	if err != nil || same || !carries(oldCounters, oldBase, counters, base) {
		return err
	}
	if back {
		oldBase = nil
	}
	sums, err := sumCounters(oldCounters, oldBase)
	if err != nil {
		return err
	}
	owners, err := to.owners(t)
	if err != nil {
		return err
	}
	oldOwners, err := old.owners(t)
	if err != nil {
		return err
	}
	for row, sum := range sums[:min(len(sums), int(base.MaxEntries()))] {
		if row >= len(owners) || row >= len(oldOwners) || owners[row] != oldOwners[row] {
			continue
		}
		if back {
			var had Counters
			if err := base.Lookup(uint32(row), &had); err != nil {
				return err
			}
			sum.add(had)
		}
		if err := base.Put(uint32(row), sum); err != nil {
			return err
		}
	}
	return nil
}

// carries reports whether all maps are there and of this version.
func carries(maps ...*ebpf.Map) bool {
	for _, m := range maps {
		if m == nil || int(m.ValueSize()) != countersSize {
			return false
		}
	}
	return true
}
