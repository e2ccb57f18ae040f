package loader

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// The kernel counts by row of backends. What a service counted is what its
// backends did, those that are gone included:
//
//	sum of a backend = backend_counters, all CPUs + backend_base
//	sum of a service = service_base + sums of all rows of backends of its row
//
// A row of backends stays its service's when it is free. When it gets another
// owner, its sum is folded into service_base first and then set to zero. One
// write adds the sum and says whose it is, so that who reads in between, or
// goes on after a crash in between, does not count it twice. A row of services
// that gets another owner starts with no rows of backends that count anything,
// and then with no base.
//
// A packet on its way may still count in a row that was freed: nobody gets the row
// before all such packets are through.

// A Table is one of the two tables of counters.
type Table string

// The tables.
const (
	TableServices Table = "service"
	TableBackends Table = "backend"
)

// A serviceBase is a row of service_base.
type serviceBase struct {
	Counters
	// FoldedRow and FoldedGen are the row and the generation of the backend that
	// was folded last.
	FoldedRow, FoldedGen uint32
}

// has reports whether the sum of a row of backends is in s already. No owner
// has generation 0.
func (s *serviceBase) has(row int, b *Backend) bool {
	return b.Gen != 0 && s.FoldedGen == b.Gen && s.FoldedRow == uint32(row)
}

// A tally is what the sums are made of.
type tally struct {
	bases    []serviceBase // by row of services
	backends []Backend
	sums     []Counters // by row of backends
}

// readTally returns a tally in which nothing was folded halfway.
func (m *Maps) readTally() (*tally, error) {
	t := &tally{}
	var err error
	if t.bases, err = ReadArray[serviceBase](m.ServiceBase); err != nil {
		return nil, err
	}
	for {
		if t.backends, err = ReadArray[Backend](m.Backends); err != nil {
			return nil, err
		}
		if t.sums, err = sumCounters(m.BackendCounters, m.BackendBase); err != nil {
			return nil, err
		}
		now, err := ReadArray[serviceBase](m.ServiceBase)
		if err != nil || slices.Equal(now, t.bases) {
			return t, err
		}
		t.bases = now
	}
}

// each calls f with every row of backends whose sum is not in its service's
// base yet.
func (t *tally) each(f func(row int, b *Backend, sum Counters)) {
	for row := range t.backends[:min(len(t.backends), len(t.sums))] {
		b := &t.backends[row]
		if int(b.Service) < len(t.bases) && !t.bases[b.Service].has(row, b) {
			f(row, b, t.sums[row])
		}
	}
}

// ReadCounters returns what was counted for each row of a table.
func (m *Maps) ReadCounters(t Table) ([]Counters, error) {
	if t == TableBackends {
		sums, err := sumCounters(m.BackendCounters, m.BackendBase)
		return sums, wrap(err, "read counters of backends")
	}
	all, err := m.readTally()
	if err != nil {
		return nil, fmt.Errorf("read counters of services: %w", err)
	}
	sums := make([]Counters, len(all.bases))
	for row := range all.bases {
		sums[row] = all.bases[row].Counters
	}
	all.each(func(_ int, b *Backend, sum Counters) { sums[b.Service].add(sum) })
	return sums, nil
}

// ResetCounters lets the counters of free rows start at 0, for new owners; a
// service keeps what backends counted whose rows these were. Being killed and
// done again changes nothing. Rows of services come before those of their
// backends.
func (m *Maps) ResetCounters(t Table, rows ...uint32) error {
	if len(rows) == 0 {
		return nil
	}
	reset := m.fold // looks at few rows, however many there are
	if t == TableServices {
		backends, err := ReadArray[Backend](m.Backends)
		if err != nil {
			return fmt.Errorf("read backends: %w", err)
		}
		reset = func(row uint32) error { return m.resetService(row, backends) }
	}
	for _, row := range rows {
		if err := reset(row); err != nil {
			return fmt.Errorf("reset counters of %s %d: %w", t, row, err)
		}
	}
	return nil
}

func (m *Maps) resetService(row uint32, backends []Backend) error {
	for i := range backends {
		if b := &backends[i]; b.Service == row && b.Gen != 0 {
			if err := m.zero(uint32(i)); err != nil {
				return err
			}
		}
	}
	return m.ServiceBase.Put(row, serviceBase{})
}

// fold moves the sum of a row of backends to its service.
func (m *Maps) fold(row uint32) error {
	var b, last Backend
	if err := m.Backends.Lookup(row, &b); err != nil {
		return err
	}
	if b.Gen == 0 {
		return nil // it has had no owner, so it has counted nothing
	}
	var base serviceBase
	if err := m.ServiceBase.Lookup(b.Service, &base); err != nil {
		return err
	}
	if err := m.Backends.Lookup(base.FoldedRow, &last); err == nil && base.has(int(base.FoldedRow), &last) {
		if err := m.zero(base.FoldedRow); err != nil { // who was killed may have left that
			return err
		}
	}
	if !base.has(int(row), &b) {
		sum, err := m.sumOf(row)
		if err != nil {
			return err
		}
		base.add(sum)
		base.FoldedRow, base.FoldedGen = row, b.Gen
		if err := m.ServiceBase.Put(b.Service, base); err != nil {
			return err
		}
	}
	return m.zero(row)
}

// sumOf returns what a row of backends has counted.
func (m *Maps) sumOf(row uint32) (sum Counters, err error) {
	var each []Counters
	if err := errors.Join(m.BackendBase.Lookup(row, &sum), m.BackendCounters.Lookup(row, &each)); err != nil {
		return sum, err
	}
	for _, c := range each {
		sum.add(c)
	}
	return sum, nil
}

// zero forgets what a row of backends has counted.
func (m *Maps) zero(row uint32) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	if err := m.BackendCounters.Put(row, make([]Counters, cpus)); err != nil {
		return err
	}
	return m.BackendBase.Put(row, Counters{})
}

// ReadVerdicts returns the number of packets by verdict.
func (m *Maps) ReadVerdicts() (sums [Verdicts]uint64, err error) {
	err = wrap(sumRows(m.Verdicts, sums[:]), "read verdicts")
	return sums, err
}

// ReadEvictions returns the number of entries that the flow table gave up for
// others, by kind.
func (m *Maps) ReadEvictions() (sums [Evictions]uint64, err error) {
	err = wrap(sumRows(m.Evictions, sums[:]), "read evictions")
	return sums, err
}

// sumRows fills sums with the first rows of a per-CPU array of numbers.
func sumRows(m *ebpf.Map, sums []uint64) error {
	for row := range sums {
		var each []uint64
		if err := m.Lookup(uint32(row), &each); err != nil {
			return err
		}
		for _, n := range each {
			sums[row] += n
		}
	}
	return nil
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

// add adds d to c.
func (c *LBCounters) add(d Counters) {
	for dir := range c.Packets {
		c.Packets[dir] += d.Packets[dir]
		c.Bytes[dir] += d.Bytes[dir]
	}
	c.Flows += d.Flows
	for sign := range c.Troubles {
		c.Troubles[sign] += d.Troubles[sign]
	}
}
