// Package control holds what the admin API, the line socket and registration
// have in common: edits of the configuration, and who carries them out.
//
// What is in force is the configuration file with edits on top. An edit wins over
// the file, wherever both speak of the same thing, until it is taken back; it
// survives restarts and changes of the file. Each change makes a revision, and the
// history has who made it, when, and what became different.
//
// The package is plain data. Package daemon implements [Plane].
package control

import (
	"context"
	"errors"
	"time"

	"fairlead/userspace/view"
)

// Faults of a change.
var (
	// ErrInvalid says that the configuration would have a fault, which is wrapped
	// too, or that the change is none.
	ErrInvalid = errors.New("invalid change")
	// ErrConflict says that the expected revision is not the one in force.
	ErrConflict = errors.New("revision conflict")
	// ErrNotFound says that there is no service, pool, route, backend or revision
	// of that name.
	ErrNotFound = errors.New("not found")
	// ErrExists says that what is to be added is there already.
	ErrExists = errors.New("already exists")
	// ErrUnhealthy says that a backend was refused because it failed its check.
	ErrUnhealthy = errors.New("backend fails its check")
	// ErrRefused says that the configuration is good as such, but this agent, or its
	// host, cannot have it. The cause is wrapped too.
	ErrRefused = errors.New("cannot come in force")
	// ErrUnavailable says that the agent is starting or ending.
	ErrUnavailable = errors.New("agent takes no changes now")
)

// Applied stands for the file in faults of a configuration that was applied.
const Applied = "the configuration applied"

// An Op is what an edit does.
type Op string

// The edits. Those of backends name a pool: an entry of pools, or a service that
// lists backends itself. Where a pool and a service have the same name, it is the
// pool.
const (
	// OpApply puts Spec, a whole configuration, in the place of the file. It drops
	// all edits before it. Without Spec the file counts again.
	OpApply Op = "apply"
	// OpPutService and OpPutPool add or replace what Spec, a mapping as in the
	// configuration, says; its name is in Service or Pool.
	OpPutService    Op = "put-service"
	OpRemoveService Op = "remove-service"
	OpPutPool       Op = "put-pool"
	OpRemovePool    Op = "remove-pool"
	// OpPutRoute has requests of an HTTP service that fit Match go to Pool. Spec
	// may have further keys of the route.
	OpPutRoute    Op = "put-route"
	OpRemoveRoute Op = "remove-route"
	// OpAddBackend adds Backend, which is not there yet, to Pool, with the Weight
	// if it is set, and further keys in Spec.
	OpAddBackend    Op = "add-backend"
	OpRemoveBackend Op = "remove-backend"
	OpSetWeight     Op = "set-weight" // Weight; 0 drains
	// OpDrain lets a backend get nothing new, whatever its weight, OpUndrain again.
	OpDrain   Op = "drain"
	OpUndrain Op = "undrain"
	// OpSetBackends makes Backends all that Pool has. Those that stay keep their
	// weights.
	OpSetBackends Op = "set-backends"
)

// Ops are all of them.
var Ops = []Op{
	OpApply, OpPutService, OpRemoveService, OpPutPool, OpRemovePool, OpPutRoute, OpRemoveRoute,
	OpAddBackend, OpRemoveBackend, OpSetWeight, OpDrain, OpUndrain, OpSetBackends,
}

// An Edit is one thing to change.
type Edit struct {
	Op      Op     `json:"op"`
	Service string `json:"service,omitempty"`
	Pool    string `json:"pool,omitempty"`
	Match   string `json:"match,omitempty"`
	// Backend is "host:port" or a URL, as in the configuration.
	Backend  string   `json:"backend,omitempty"`
	Backends []string `json:"backends,omitempty"`
	Weight   *int     `json:"weight,omitempty"`
	Spec     string   `json:"spec,omitempty"` // YAML, or JSON
	// Lease says of OpAddBackend that the backend has registered itself, and goes
	// when it was silent for so long. 0 is for good. Whoever leases sees to it, and
	// says it of OpRemoveBackend, too: one that the configuration has stays then.
	Lease time.Duration `json:"lease,omitempty"`
	// New has a put-edit fail with [ErrExists] if what it puts is there already.
	New bool `json:"new,omitempty"`
}

// A Request is a change: its edits come in force together, or none does.
type Request struct {
	Who   string // such as "uid 1000 (alice)", for the history
	Edits []Edit
	// Expect is the revision that must be in force; 0 means any.
	Expect uint64
	// Force takes backends that fail their check: without it those that the edits
	// add, in whatever way, are probed first.
	Force bool
	// Remote says that who asks is not on this host. Edits, and the revision that a
	// rollback restores, may not name files, programs and variables then that the
	// configuration does not have.
	Remote bool
}

// A Revision is one change that was made.
type Revision struct {
	Number uint64    `json:"revision"` // from 1
	Time   time.Time `json:"time"`
	Who    string    `json:"who"`
	// Edits are empty where the file has changed; Rollback is the revision that
	// this one restored, else 0.
	Edits    []Edit `json:"edits,omitempty"`
	Rollback uint64 `json:"rollback,omitempty"`
	// Difference is that of the exports before and after, as a unified diff
	// without secrets. Only [Plane.History] fills it.
	Difference string `json:"difference,omitempty"`
}

// A Plane carries out changes of a running agent and tells what is in force. All of
// it may be called at any time from any goroutine.
type Plane interface {
	// Change carries out a request. It returns when the change is in force and
	// survives a restart. On an error nothing is changed.
	Change(ctx context.Context, r Request) (Revision, error)
	// Plan returns what the request would change, as a unified diff of exports,
	// and its faults, without changing anything.
	Plan(ctx context.Context, r Request) (difference string, err error)
	// Rollback restores the configuration of a revision, as a new one.
	Rollback(ctx context.Context, number uint64, r Request) (Revision, error)
	// Revision returns the one in force.
	Revision() Revision
	// Edits returns those that stand on top of the file. They must not be changed.
	Edits() []Edit
	// Export returns the configuration in force as YAML, with variables and files of
	// secrets by name, as they were written.
	Export() ([]byte, error)
	// History returns at most most revisions, the newest first, from the newest
	// before a number on; before 0 stands for all.
	History(before uint64, most int) ([]Revision, error)
	// View returns what the agent published last. It must not be changed.
	View() *view.View
	// Now is View, but has what the newest revision has made different, unless there
	// is so much to publish that it takes long. It waits for that until ctx is done.
	Now(ctx context.Context) *view.View
	// Watch returns a channel that gets an element soon after a revision or the
	// view has changed, until ctx is done. Who is slow misses some.
	Watch(ctx context.Context) <-chan struct{}
}
