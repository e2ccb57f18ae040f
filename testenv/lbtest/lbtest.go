// Package lbtest runs the datapath on given packets in a world of the test's
// own: clock, routes and rivals are what the test says, and one of the faults
// of [Faults] can be built in.
//
// It is the C of package loader, compiled with bpf/test/env.h in the place of
// bpf/env/env.h. Nothing is attached: packets go through BPF_PROG_TEST_RUN.
package lbtest

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
)

// Ingress is the interface that every packet comes in from: the loopback of
// whatever network namespace the test is in.
const Ingress = 1

// XDP actions.
const (
	Drop     = 1
	Pass     = 2
	TX       = 3
	Redirect = 4
)

// Answers of a look-up in the routes (enum of linux/bpf.h).
const (
	RouteFound        = 0
	RouteBlackhole    = 1
	RouteNotForwarded = 4
	RouteNoNeighbour  = 7
)

// A Route is the answer to a look-up: a Result, and a way if that is RouteFound.
type Route = lbFib

// A Datapath is a loaded program with maps that nobody else has. It is not
// safe for concurrent use.
type Datapath struct {
	// Maps are the maps by their names in the C; package loader has their types.
	Maps map[string]*ebpf.Map

	coll   *ebpf.Collection
	prog   *ebpf.Program
	faults []*ebpf.Variable // one for each program
	family family
	parts  []*Datapath // that serve between families: see LoadMixed
	out    []byte
}

// A family is one of the programs of the C.
type family struct {
	load    func() (*ebpf.CollectionSpec, error)
	program string
	suffix  string // of the maps that it has for itself
}

var (
	ipv4 = family{load: loadLb, program: lbProgFairlead}
	ipv6 = family{load: loadLb6, program: lb6ProgFairlead6, suffix: "6"}
)

// Load loads the datapath of IPv4 with one of [Faults] built in, which SetFault
// can exchange, or with none for good: 0.
// sizes are numbers of entries by name of the map, of buckets for the flow table,
// where they must be a power of two; a map that it lacks gets what the C says. The test closes the datapath.
func Load(tb testenv.TB, sizes map[string]uint32, fault uint32) *Datapath {
	tb.Helper()
	return ipv4.datapath(tb, sizes, fault)
}

// Load6 is Load for the datapath of IPv6, which is run on its own. Maps that it
// does not share with IPv4's are called as in the C: flows6; see [Datapath.Own].
func Load6(tb testenv.TB, sizes map[string]uint32, fault uint32) *Datapath {
	tb.Helper()
	return ipv6.datapath(tb, sizes, fault)
}

func (f family) datapath(tb testenv.TB, sizes map[string]uint32, fault uint32) *Datapath {
	tb.Helper()
	return f.with(tb, sizes, fault, nil)
}

// with is datapath with those maps of another one that both have.
func (f family) with(tb testenv.TB, sizes map[string]uint32, fault uint32, others map[string]*ebpf.Map) *Datapath {
	tb.Helper()
	testenv.RequireRoot(tb)
	spec, shared := f.spec(tb, sizes, fault, others)
	return f.collect(tb, spec, shared)
}

// spec is what is loaded for a datapath, and those maps that it shares.
func (f family) spec(tb testenv.TB, sizes map[string]uint32, fault uint32, others map[string]*ebpf.Map) (spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map) {
	tb.Helper()
	spec, err := f.load()
	if err != nil {
		tb.Fatalf("parse the test object: %v", err)
	}
	for name, n := range sizes {
		spec.Maps[name].MaxEntries = n
	}
	shared = share(spec, others)
	if fault != 0 {
		// By its name it would be frozen; but the verifier is to take it for variable.
		variable := spec.Maps[".rodata"]
		variable.Name, variable.Flags = "variable", unix.BPF_F_MMAPABLE
	}
	if err := spec.Variables[lbVarSeededFault].Set(fault); err != nil {
		tb.Fatalf("seed fault %d: %v", fault, err)
	}
	shift := uint32(65 - bits.Len32(spec.Maps[lbMapFlows+f.suffix].MaxEntries))
	if err := spec.Variables[lbVarFlowShift].Set(shift); err != nil {
		tb.Fatalf("set the size of the flow table: %v", err)
	}
	spec.Programs = map[string]*ebpf.ProgramSpec{f.program: spec.Programs[f.program]}
	return spec, shared
}

// collect loads spec, with maps of another datapath in the place of its own.
func (f family) collect(tb testenv.TB, spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map) *Datapath {
	tb.Helper()
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) {
		tb.Fatalf("load the test object: %+v", refused)
	}
	if err != nil {
		tb.Fatalf("load the test object: %v", err)
	}
	tb.Cleanup(coll.Close)
	return &Datapath{Maps: coll.Maps, coll: coll, prog: coll.Programs[f.program], faults: []*ebpf.Variable{coll.Variables[lbVarSeededFault]}, family: f, out: make([]byte, 1<<16)}
}

// Run sends one frame through the program. It returns the XDP action, the
// frame as the program left it, and the interface that it is redirected to,
// 0 if it is not. out is valid until the next Run.
func (d *Datapath) Run(frame []byte) (action uint32, out []byte, egress uint32, err error) {
	return d.run(ebpf.RunOptions{Data: frame, DataOut: d.out})
}

// RunLinear is Run with only the first linear bytes of the frame in the linear
// part of its buffer. Kernels before 6.18 refuse.
func (d *Datapath) RunLinear(frame []byte, linear int) (action uint32, out []byte, egress uint32, err error) {
	return d.run(ebpf.RunOptions{Data: frame, DataOut: d.out, Context: xdpMD{DataEnd: uint32(linear), Ingress: Ingress}})
}

// xdpMD is struct xdp_md of linux/bpf.h.
type xdpMD struct{ Data, DataEnd, DataMeta, Ingress, Queue, Egress uint32 }

func (d *Datapath) run(opts ebpf.RunOptions) (action uint32, out []byte, egress uint32, err error) {
	action, err = d.Program().Run(&opts)
	if err != nil {
		return 0, nil, 0, fmt.Errorf("run the program: %w", err)
	}
	if action == Redirect {
		if err := d.coll.Variables[lbVarWorldEgress].Get(&egress); err != nil {
			return 0, nil, 0, fmt.Errorf("read the egress: %w", err)
		}
	}
	return action, opts.DataOut, egress, nil
}

// SetFault exchanges the fault of a datapath that was loaded with one; it may be
// none now: 0.
func (d *Datapath) SetFault(fault uint32) error {
	for _, f := range d.faults {
		if err := f.Set(fault); err != nil {
			return err
		}
	}
	return nil
}

// SetNow sets the tick.
func (d *Datapath) SetNow(tick uint32) error {
	return d.coll.Variables[lbVarWorldNow].Set(tick)
}

// SetMonotonic sets CLOCK_MONOTONIC, in nanoseconds.
func (d *Datapath) SetMonotonic(ns uint64) error {
	return d.coll.Variables[lbVarWorldKtime].Set(ns)
}

// SetAgent says whether there is an agent that holds fragments.
func (d *Datapath) SetAgent(there bool) error {
	agent := uint32(0)
	if there {
		agent = 1
	}
	return d.coll.Variables[lbVarWorldAgent].Set(agent)
}

// Held returns how many frames the agent was given to hold, and of how many
// first fragments it was told.
func (d *Datapath) Held() (held, told uint32, err error) {
	err = errors.Join(d.coll.Variables[lbVarWorldHeld].Get(&held), d.coll.Variables[lbVarWorldTold].Get(&told))
	return held, told, err
}

// SetRoute sets what a look-up of the way to an address answers. An address
// without an answer is RouteNotForwarded.
func (d *Datapath) SetRoute(to netip.Addr, r Route) error {
	return d.Maps[lbMapFibs].Put(to.AsSlice(), r)
}

// Own returns a map that each family has for itself, by its name for IPv4.
func (d *Datapath) Own(name string) *ebpf.Map { return d.Maps[name+d.family.suffix] }

// Sums returns the rows of a per-CPU array of numbers, each summed over all CPUs.
func (d *Datapath) Sums(name string) ([]uint64, error) {
	values, err := Rows[uint64](d.Maps[name])
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	sums := make([]uint64, d.Maps[name].MaxEntries())
	for i, n := range values {
		sums[i/ebpf.MustPossibleCPU()] += n
	}
	return sums, nil
}

// Program returns the program, for those who time it.
func (d *Datapath) Program() *ebpf.Program { return d.prog }
