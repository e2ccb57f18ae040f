package loader

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// connections is a map of how many connections each row has, in memory;
// docs/datapath.md, rule 7, says how they are counted. The zero value has no rows.
type connections struct {
	memory []byte
	rows   []uint64
}

// openConnections maps the memory of a map, if there is one.
func openConnections(m *ebpf.Map) (c connections, err error) {
	if m == nil {
		return c, nil
	}
	if m.Type() != ebpf.Array || m.ValueSize() != 8 {
		return c, fmt.Errorf("map memory of connections: %v of %d bytes counts none", m.Type(), m.ValueSize())
	}
	n := int(m.MaxEntries())
	if c.memory, err = mapMemory(m, n*8); err != nil {
		return c, fmt.Errorf("map memory of connections: %w", err)
	}
	c.rows = unsafe.Slice((*uint64)(unsafe.Pointer(&c.memory[0])), n)
	return c, nil
}

func (c connections) close() error {
	if c.memory == nil {
		return nil
	}
	return unix.Munmap(c.memory)
}

func (c connections) load(row int) Connections {
	word := atomic.LoadUint64(&c.rows[row])
	return Connections{Gen: uint32(word), Count: uint32(word >> 32)}
}

// swap changes a row that still is as it was.
func (c connections) swap(row int, was, is Connections) bool {
	return atomic.CompareAndSwapUint64(&c.rows[row], was.word(), is.word())
}

func (c *LBConnections) word() uint64 { return uint64(c.Gen) | uint64(c.Count)<<32 }

// add adds to the connections of a row's owner of that generation.
func (c connections) add(row, gen uint32, n int64) {
	for int64(row) < int64(len(c.rows)) {
		was := c.load(int(row))
		is := Connections{Gen: gen, Count: uint32(max(0, int64(was.Count)+n))}
		if was.Gen != gen || c.swap(int(row), was, is) {
			return
		}
	}
}

// Of returns how many connections the owner of a row has, whose generation this is.
func (c LBConnections) Of(gen uint32) uint32 {
	if c.Gen != gen {
		return 0
	}
	return c.Count
}

// A recount is a second count of the connections of a map's rows.
type recount struct {
	conns  connections
	gens   []uint32 // of the rows' owners
	before []Connections
	found  []uint32
	made   []uint64 // flows, while the table was read
}

func newRecount(c connections, gens []uint32) *recount {
	n := min(len(gens), len(c.rows))
	r := &recount{conns: c, gens: gens[:n], found: make([]uint32, n), made: make([]uint64, n)}
	for row := range n {
		r.before = append(r.before, c.load(row))
	}
	return r
}

func (r *recount) add(row, gen uint32) {
	if int64(row) < int64(len(r.found)) && r.gens[row] == gen {
		r.found[row]++
	}
}

// RepairConnections makes the counts of connections what the flow tables say,
// where they are wrong: who frees an entry and is killed before it has counted
// that leaves one too many. What begins or ends meanwhile is not lost; a row
// where much does is only repaired if it is wrong by more than that, and exact
// once it is quieter. It returns how many rows were wrong.
func (m *Maps) RepairConnections() (repaired int, err error) {
	rows, err := ReadArray[Backend](m.Backends)
	if err != nil {
		return 0, fmt.Errorf("read backends: %w", err)
	}
	owners, err := ReadArray[Service](m.Services)
	if err != nil {
		return 0, fmt.Errorf("read services: %w", err)
	}
	before, err := sumCounters(m.BackendCounters, nil)
	if err != nil {
		return 0, fmt.Errorf("read counters: %w", err)
	}
	table, err := m.FlowTable()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	backends, services := table.recount(rows, owners)
	after, err := sumCounters(m.BackendCounters, nil)
	if err != nil {
		return 0, fmt.Errorf("read counters: %w", err)
	}
	for row := range backends.made {
		made := after[row].Flows - before[row].Flows
		backends.made[row] = made
		if of := rows[row].Service; int64(of) < int64(len(services.made)) {
			services.made[of] += made
		}
	}
	return backends.repair() + services.repair(), nil
}

// recount counts the connections of those who own rows now.
func (t *FlowTable) recount(rows []Backend, owners []Service) (backends, services *recount) {
	var ofBackends, ofServices []uint32
	for i := range rows {
		ofBackends = append(ofBackends, rows[i].Gen)
	}
	for i := range owners {
		ofServices = append(ofServices, owners[i].Gen)
	}
	backends, services = newRecount(t.ofBackends, ofBackends), newRecount(t.ofServices, ofServices)
	for e := range t.Each {
		if e.connects() {
			backends.add(e.Backend, e.BackendGen)
			services.add(e.Service, e.ServiceGen)
		}
	}
	return backends, services
}

func (r *recount) repair() (repaired int) {
	for row, gen := range r.gens {
		if r.conns.repair(row, gen, r.before[row], r.made[row], r.found[row]) {
			repaired++
		}
	}
	return repaired
}

// repairConnections is RepairConnections for the instance in dir, whose maps may
// be new ones.
func repairConnections(dir string) error {
	m, err := loadMaps(dir)
	if err != nil {
		return err
	}
	defer m.close()
	_, err = m.RepairConnections()
	return wrap(err, "repair counts of connections")
}

// connects says that the entry is a connection of its backend.
func (s *LBStamp) connects() bool { return s.Dir() == LBFlowDirDIR_FORWARD && !s.Over() }

// repair corrects a row, which had before connections when the table began to be
// read, in which found were seen; meanwhile so many were made. It reports
// whether the row was wrong.
func (c connections) repair(row int, gen uint32, before Connections, made uint64, found uint32) bool {
	now := c.load(row)
	if now.Gen != gen {
		return found > 0 && c.swap(row, now, Connections{Gen: gen, Count: found})
	}
	if before.Gen != gen {
		return false // it has just got its owner
	}
	wrong := int64(found) - int64(now.Count)
	grown := int64(now.Count) - int64(before.Count)
	changes := 2*int64(made) - grown // made and ended
	if wrong == 0 || max(wrong, -wrong) <= max(changes, -changes) {
		return false
	}
	c.add(uint32(row), gen, wrong)
	return true
}
