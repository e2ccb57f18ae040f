// Package loader puts the XDP program into the kernel, upgrades it in place and
// takes it out again.
//
// It owns what outlives a process: maps, program and links, pinned under one
// directory of a BPF file system, and the locks that keep two commands apart.
// It knows nothing of configurations: package datapath writes services and
// backends into the maps that this package opens.
//
// Every command takes a [Lock] and begins by mending what a killed one left.
package loader

import (
	"context"
	"errors"
	"path/filepath"
)

// DefaultDir is where an instance is pinned if nothing else is asked for. The
// directory around it may belong to a user that the agent runs as: instances are
// put together there.
const DefaultDir = "/sys/fs/bpf/fairlead/main"

// Errors that callers can tell apart with [errors.Is].
var (
	// ErrNotAttached says that no instance is pinned in the directory, or that
	// the interface has no link of it.
	ErrNotAttached = errors.New("not attached")
	// ErrForeign says that an interface carries an XDP program of somebody else.
	ErrForeign = errors.New("another XDP program is attached")
	// ErrLocked says that another process holds the lock.
	ErrLocked = errors.New("another process holds the lock")
	// ErrMode says that an interface cannot be attached in the mode asked for.
	ErrMode = errors.New("not possible in this mode")
	// ErrNoRoute says that this host does not know where a client is.
	ErrNoRoute = errors.New("find route to client")
	// ErrNoInterface says that there is no interface of that name.
	ErrNoInterface = errors.New("no such interface")
	// ErrPrivileges says that the process may not load BPF programs.
	ErrPrivileges = errors.New("not enough privileges: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")
	// ErrKernel says that the kernel is too old.
	ErrKernel = errors.New("kernel is too old")
	// ErrNoBPFFS says that the pin directory is not on a BPF file system.
	ErrNoBPFFS = errors.New("not on a BPF file system")
	// ErrProgram says that what is attached is not the program of this version.
	ErrProgram = errors.New("the attached program is of another version: run `loader attach`")
	// ErrVersion says that the pinned maps are not those of this version.
	ErrVersion = errors.New("pinned by another version: attach again to upgrade")
)

// AttachMode is where in the network stack XDP runs.
type AttachMode string

// The attach modes. A zero AttachMode means AttachAuto; a link has never that.
const (
	AttachAuto    AttachMode = "auto"    // native where the driver can, else generic
	AttachNative  AttachMode = "native"  // in the driver, or not at all
	AttachGeneric AttachMode = "generic" // in the stack, for any device
)

// Options say what [Attach] is to bring about.
type Options struct {
	// Sizes are what the maps must hold at least. No map shrinks.
	Sizes Sizes
	// ResizeFlows gives the flow table the size of Sizes, and so drops its
	// flows. Without it a table that is pinned already keeps its size.
	ResizeFlows bool
	// Interfaces are to be attached. Others that are attached stay so.
	Interfaces []string
	// Mode is how; "" means AttachAuto.
	Mode AttachMode
	// Force replaces a foreign XDP program, but not one that a foreign
	// bpf_link holds. A failure later on does not bring it back.
	Force bool
	// KeepMode leaves the switch as it is, off for a new instance, for callers
	// with more to do before packets may come, or that stand beside a running
	// agent. Otherwise Attach ends with [ModeOn].
	KeepMode bool
	// Fill writes rows into new maps before any packet sees them: into those
	// of a new instance, or into larger copies of the old ones. It is not
	// called when no map is new. It may write Control, Listeners, VIPs,
	// Services, Backends, Slots, Clients, ServiceNames and Devices. May be nil.
	Fill func(*Maps) error
}

// Outcome is what [Attach] did.
type Outcome string

// The outcomes.
const (
	OutcomeNew       Outcome = "new"
	OutcomeUpgraded  Outcome = "upgraded"  // program or maps changed place
	OutcomeUnchanged Outcome = "unchanged" // both were up to date
)

// A Report says what [Attach] did.
type Report struct {
	Outcome Outcome
	// Interfaces are those of Options, in their order.
	Interfaces []InterfaceReport
	// Grown are the maps that were replaced by larger copies.
	Grown []Growth
	// Dropped names the maps of an existing instance whose contents could not
	// be kept, because this version has another schema, or nobody needs IPv6.
	Dropped []string
	// FlowsDropped is the number of flows that the flow table held when
	// ResizeFlows, or what Dropped is about, dropped it.
	FlowsDropped uint64
	// Mended says what a command that was killed had left, "" if nothing.
	Mended string
}

// An InterfaceReport says how an interface is attached.
type InterfaceReport struct {
	Name string
	Mode AttachMode // native or generic
	// Reason says why Mode is not native, or why the link had to be made anew.
	// It is "" for an interface that was attached before.
	Reason string
	// Already says that the interface was attached before.
	Already bool
}

// A Growth is a map that was replaced by a larger copy.
type Growth struct {
	Map      string
	From, To uint32 // entries
}

// Attach makes a new instance, pinned in dir and switched on, or upgrades the
// one that is there: its links get the new program and its maps stay, or grow.
// When they grow, counters stay exact; round robin may repeat a few turns.
// A failure undoes a new instance and leaves an old one as it was.
//
// It must run on one thread of the network namespace that the interfaces are
// in. Errors wrap [ErrForeign], [ErrMode], [ErrNoInterface], [ErrLocked],
// [ErrPrivileges], [ErrKernel] and [ErrNoBPFFS]. The caller closes the Instance.
func Attach(ctx context.Context, dir string, o Options) (*Instance, Report, error) {
	l, err := NewLock(ctx, dir)
	if err != nil {
		return nil, Report{}, err
	}
	defer l.Unlock()
	return l.Attach(ctx, o)
}

// Detach takes the interfaces out of the instance pinned in dir, and notes it
// for [Instance.TakenOut]. With no names,
// or when no live link would be left, it removes the instance: links, maps,
// directory and lock file. It returns an error wrapping [ErrNotAttached] if
// there is nothing to detach.
func Detach(ctx context.Context, dir string, interfaces []string) error {
	l, err := NewLock(ctx, dir)
	if err != nil {
		return err
	}
	defer l.Unlock()
	return l.Detach(ctx, interfaces)
}

// cleanDir returns dir as an absolute path, DefaultDir for "".
func cleanDir(dir string) (string, error) {
	if dir == "" {
		dir = DefaultDir
	}
	return filepath.Abs(dir)
}
