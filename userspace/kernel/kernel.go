// Package kernel brings a model.State into the kernel and out again: it
// prepares the host, attaches the datapath and writes its maps.
//
// The loader's commands and the agent share it, so that both do the same. It
// runs nothing in the background and decides nothing about health; what it
// changes on the host is recorded with the pins, so that any later process can
// undo it.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"fairlead/internal/crashpoint"
	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/host"
	"fairlead/userspace/model"
)

// Errors that callers can tell apart with [errors.Is].
var (
	// ErrConflict says that another program of this host listens where a
	// service does.
	ErrConflict = errors.New("conflict")
	// ErrOtherConfig says that a running agent has another configuration.
	ErrOtherConfig = errors.New("the agent runs with another configuration")
	// ErrAgentDetached says that a running agent has nothing attached, so that nobody
	// would fill the maps that a command makes.
	ErrAgentDetached = errors.New("the agent has nothing attached")
	// ErrForwarding says that the host does not forward packets.
	ErrForwarding = errors.New("forwarding is off")
	// ErrNoIPv6 says that the kernel has no IPv6, and services need it.
	ErrNoIPv6 = errors.New("this kernel has no IPv6")
	// ErrNoInterfaces says that neither the configuration nor the caller names
	// an interface.
	ErrNoInterfaces = errors.New("no interface to attach to: list them under interfaces: or use --interface")
)

// neighbourWait is how long Attach waits for next hops to answer.
const neighbourWait = time.Second

// Options say how [Attach] is to go about it.
type Options struct {
	Dir        string        // of the pins; "" means loader.DefaultDir
	Interfaces []string      // instead of the state's, if any
	Mode       model.XDPMode // instead of the state's, if not ""
	// Force replaces foreign XDP programs and takes service addresses on
	// which the host listens already.
	Force bool
	// SetSysctl switches forwarding on where it is off.
	SetSysctl bool
	// ResizeFlows gives an existing flow table the size of the state, and
	// drops its flows.
	ResizeFlows bool
	// Config is the path of the configuration, for people to read.
	Config string
	// Agent says that the caller holds the agent's lock and serves as the
	// standby proxy: its own sockets are no conflict, and services that XDP
	// cannot serve are left to it.
	Agent bool
	// Down says which backends of a service are down, by index. nil keeps what
	// the maps have.
	Down func(*model.Service) []bool
	// Shares are how much of its weight each backend of a service has by now, by
	// index; see [datapath.Service]. nil: all of it.
	Shares func(*model.Service) []int
	// Standby reports whether the caller's proxy listens wherever a service
	// does, so that SYN cookies may lead there. nil: never.
	Standby func(*model.Service) bool
	// Added are the service addresses that the caller has put on the host.
	// From now on they count as Attach's own, which detach removes.
	Added []netip.Addr
	// Before is called with the maps, whole, before the switch is thrown. May
	// be nil.
	Before func(*loader.Maps) error
	// Warn gets one line for each thing that may not work. May be nil.
	Warn func(text string)
}

func (o *Options) shares(s *model.Service) []int {
	if o.Shares == nil {
		return nil
	}
	return o.Shares(s)
}

// A Report says what [Attach] did.
type Report struct {
	loader.Report
	// AgentPID is that of a running agent, which keeps the maps: only the
	// program was brought up to date. 0 if there is none.
	AgentPID int
}

// A Kernel is the datapath as a State wants it. It is not safe for concurrent
// use. Close it; packets keep flowing.
type Kernel struct {
	inst   *loader.Instance
	writer *datapath.Writer
	opts   Options
	native bool // some interface is attached in native mode
	// interfaces are the names of those that are attached.
	interfaces map[string]bool
	rungs      []Rung         // of the last Reconcile
	want       *datapath.Want // of that, too
	// unusable says of interfaces, by name, why XDP cannot send out of them; it is of
	// that, too.
	unusable map[string]string
	nat      natFaults
	unplaced Unplaced // service addresses, by the last KeepAddresses
	standby  []bool   // which services had one then
}

// crash is called where a command may be killed with something half done;
// tests do that there.
var crash = func(string) { crashpoint.Pass() }

// Attach attaches the state's interfaces, or upgrades what is attached, and
// makes the maps hold the state. Health that the maps know is kept; a backend
// that they do not know counts as up. A failure undoes a new instance.
//
// Errors wrap those of this package and of package loader.
func Attach(ctx context.Context, state *model.State, o Options) (*Kernel, Report, error) {
	if len(o.Interfaces) == 0 {
		o.Interfaces = state.Interfaces
	}
	if len(o.Interfaces) == 0 {
		return nil, Report{}, ErrNoInterfaces
	}
	if o.Mode == "" {
		o.Mode = state.XDP
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if err := CheckIPv6(state); err != nil {
		return nil, Report{}, err
	}
	lock, err := loader.NewLock(ctx, o.Dir)
	if err != nil {
		return nil, Report{}, err
	}
	defer lock.Unlock()
	if !o.Agent {
		pid, digest, running, err := loader.AgentRunning(o.Dir)
		if err != nil {
			return nil, Report{}, err
		}
		if running {
			return besideAgent(ctx, lock, state, o, pid, digest)
		}
		if err := checkSockets(state, o.Force, o.Warn); err != nil {
			return nil, Report{}, err
		}
	}
	return attach(ctx, lock, state, o)
}

// attach does the work of Attach, under the lock.
func attach(ctx context.Context, lock *loader.Lock, state *model.State, o Options) (*Kernel, Report, error) {
	sysctls, err := forwarding(state, o)
	if err != nil {
		return nil, Report{}, err
	}
	if !o.Agent {
		if err := checkAlone(state); err != nil {
			return nil, Report{}, err
		}
	}
	k := &Kernel{opts: o}
	have, err := pinned(o.Dir)
	if err != nil {
		return nil, Report{}, err
	}
	inst, r, err := lock.Attach(ctx, loader.Options{
		Sizes:       datapath.Needs(have, state),
		ResizeFlows: o.ResizeFlows,
		Interfaces:  o.Interfaces,
		Mode:        loader.AttachMode(o.Mode),
		Force:       o.Force,
		KeepMode:    true,
		Fill:        func(m *loader.Maps) error { return fill(m, state, &o) },
	})
	if err != nil {
		return nil, Report{Report: r}, err
	}
	crash("attached")
	k.inst = inst
	if err = k.finish(ctx, state, sysctls, &r); err != nil {
		if r.Outcome == loader.OutcomeNew {
			err = errors.Join(err, remove(ctx, lock, inst, func(a netip.Addr) bool { return slices.Contains(o.Added, a) }))
		}
		err = errors.Join(err, k.Close())
		return nil, Report{Report: r}, err
	}
	return k, Report{Report: r}, nil
}

// finish does what comes after the interfaces are attached.
func (k *Kernel) finish(ctx context.Context, state *model.State, sysctls []host.Sysctl, r *loader.Report) error {
	var err error
	if k.writer, err = datapath.New(k.inst.Maps()); err != nil {
		return err
	}
	if err := k.prepareHost(ctx, state, sysctls, r.Interfaces); err != nil {
		return err
	}
	if !k.opts.Agent {
		if err := datapath.ClearStandby(k.inst.Maps(), nil); err != nil {
			return err
		}
	}
	if err := k.lookAtSources(state); err != nil {
		return err
	}
	if _, err := k.Reconcile(state, k.opts.Down); err != nil {
		return err
	}
	crash("reconciled")
	if k.opts.Before != nil {
		if err := k.opts.Before(k.inst.Maps()); err != nil {
			return err
		}
	}
	k.writer.Recheck() // flows may have been checked under new rows by the old program
	k.inst.SetMode(loader.ModeOn)
	return nil
}

// fill writes the state's rows into new maps, which no packet sees yet. New
// services wait on the proxy's rung for Reconcile, which looks at the host.
func fill(m *loader.Maps, state *model.State, o *Options) error {
	w, err := datapath.New(m)
	if err != nil {
		return err
	}
	want := w.Keep(state)
	if err := setSources(new(host.Routes), state, want.Sources); err != nil {
		return err
	}
	for i := range want.Services {
		s := &want.Services[i]
		s.Proxy = s.Proxy || !s.Known
		if o.Down != nil {
			s.Down = o.Down(&s.Service)
		}
		s.Shares = o.shares(&s.Service)
	}
	_, err = w.Reconcile(want)
	return err
}

// pinned returns a writer for what is pinned in dir, nil if there is
// nothing, or nothing that this version can read.
func pinned(dir string) (*datapath.Writer, error) {
	inst, err := loader.Open(dir)
	if errors.Is(err, loader.ErrNotAttached) || errors.Is(err, loader.ErrVersion) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer inst.Close()
	return datapath.New(inst.Maps())
}

// besideAgent brings the program up to date and leaves the maps to the agent.
func besideAgent(ctx context.Context, lock *loader.Lock, state *model.State, o Options, pid int, digest string) (*Kernel, Report, error) {
	if want := Digest(state); want != digest {
		return nil, Report{}, fmt.Errorf("%w: change its file and send SIGHUP to process %d", ErrOtherConfig, pid)
	}
	if _, err := os.Stat(o.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, Report{}, fmt.Errorf("%w: send SIGHUP to process %d, which attaches and fills the maps", ErrAgentDetached, pid)
	}
	all := o
	all.SetSysctl = true // tells what is missing; to change it is the agent's, as the journal is
	o.SetSysctl = false
	switch missing, err := forwarding(state, all); {
	case err != nil:
		return nil, Report{}, err
	case len(missing) > 0:
		return nil, Report{}, off(missing, fmt.Sprintf("send SIGHUP to the agent, process %d, which may switch it on if it has --set-sysctl itself", pid))
	}
	have, err := pinned(o.Dir)
	if err != nil {
		return nil, Report{}, err
	}
	needs := datapath.Needs(have, state)
	inst, r, err := lock.Attach(ctx, loader.Options{
		Sizes:      loader.Sizes{Flows6: needs.Flows6, Mixed: needs.Mixed}, // what is left out goes, and no map grows
		Interfaces: o.Interfaces, Mode: loader.AttachMode(o.Mode), Force: o.Force, KeepMode: true,
	})
	if err != nil {
		return nil, Report{}, err
	}
	return &Kernel{inst: inst, opts: o}, Report{Report: r, AgentPID: pid}, nil
}

// checkSockets refuses service addresses on which the host listens already.
func checkSockets(state *model.State, force bool, warn func(string)) error {
	clashes, err := Conflicts(state, nil)
	if err != nil || len(clashes) == 0 {
		return err
	}
	if !force {
		return fmt.Errorf("%w: %s; use --force to take the port over", ErrConflict, strings.Join(clashes, "; "))
	}
	for _, c := range clashes {
		warn(c + ": clients will reach the backends instead")
	}
	return nil
}

// CheckIPv6 refuses a state with services of IPv6 on a kernel without it, on
// which no proxy can serve them either.
func CheckIPv6(state *model.State) error {
	at := slices.IndexFunc(state.Services, func(s model.Service) bool { return s.Listen.Addr().Is6() })
	if at < 0 || host.HasIPv6() {
		return nil
	}
	s := &state.Services[at]
	return fmt.Errorf("%w, but service %s listens on %s: start the kernel without ipv6.disable=1, or take the services of IPv6 out of the configuration",
		ErrNoIPv6, s.Name, s.Listen)
}

// forwarding returns the settings to change before packets can be forwarded,
// or says how to.
func forwarding(state *model.State, o Options) ([]host.Sysctl, error) {
	missing, err := MissingForwarding(state, o.Interfaces)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", loader.ErrNoInterface, err)
	}
	if err != nil || len(missing) == 0 || o.SetSysctl {
		return missing, err
	}
	return nil, off(missing, "use --set-sysctl")
}

// off says what to do about settings: to run a command, or else.
func off(missing []host.Sysctl, or string) error {
	words := make([]string, len(missing))
	for i, s := range missing {
		words[i] = s.String()
	}
	return fmt.Errorf("%w: run: sysctl -w %s, or %s", ErrForwarding, strings.Join(words, " "), or)
}

// MissingForwarding returns the settings, in their order, without which the
// host does not forward packets of a state's families from some interfaces.
func MissingForwarding(state *model.State, interfaces []string) ([]host.Sysctl, error) {
	four, six := len(state.Services) == 0, false
	for _, a := range append(addresses(state), mixedBackends(state)...) {
		four, six = four || a.Is4(), six || a.Is6()
	}
	var missing, missing6 []host.Sysctl
	var err error
	if four {
		missing, err = host.MissingForwarding(interfaces)
	}
	if six && err == nil {
		missing6, err = host.MissingForwarding6(interfaces)
	}
	return append(missing, missing6...), err
}

// Instance returns the loader's view of the datapath. It belongs to k.
func (k *Kernel) Instance() *loader.Instance { return k.inst }

// Maps returns the maps. They belong to k.
func (k *Kernel) Maps() *loader.Maps { return k.inst.Maps() }

// Close releases file descriptors. Packets keep flowing.
func (k *Kernel) Close() error {
	if k.inst == nil {
		return nil
	}
	return k.inst.Close()
}
