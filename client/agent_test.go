package client_test

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"fairlead/userspace/admin"
	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/control"
	"fairlead/userspace/model"
	"fairlead/userspace/peercred"
	"fairlead/userspace/view"
)

// An agent is one in memory: one pool, web, whose backends become healthy, and lose
// a flow where they drain, each time somebody looks.
type agent struct {
	socket   string
	stop     func()
	mu       sync.Mutex
	backends map[string]backend
	number   uint64
}

type backend struct {
	weight, flows int
	known         bool
	fails         string
}

// startAgent starts one, which ends with the test, if there is one.
func startAgent(t *testing.T) *agent {
	dir, err := os.MkdirTemp("", "client")
	if err != nil {
		log.Fatal(err)
	}
	a := &agent{socket: filepath.Join(dir, "admin.sock"), backends: map[string]backend{
		"10.0.0.1:80": {weight: 5, flows: 2, known: true}, "10.0.0.2:80": {weight: 5, flows: 1, known: true},
	}}
	l, err := peercred.Listen(a.socket, peercred.Allowed{})
	if err != nil {
		log.Fatal(err)
	}
	s := &admin.Server{Plane: a, Datapath: nowhere{}, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	a.stop = func() {
		cancel()
		<-done
		os.RemoveAll(dir)
	}
	if t != nil {
		t.Cleanup(a.stop)
	}
	return a
}

func (a *agent) set(address string, b backend) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.backends[address] = b
}

func (a *agent) Change(_ context.Context, r control.Request) (control.Revision, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range r.Edits {
		b, there := a.backends[e.Backend]
		switch {
		case there == (e.Op == control.OpAddBackend):
			return control.Revision{}, errors.Join(control.ErrExists, control.ErrNotFound)
		case e.Op == control.OpRemoveBackend:
			delete(a.backends, e.Backend)
			continue
		case e.Op == control.OpDrain:
			b.weight = 0
		default:
			b.weight = *e.Weight
		}
		a.backends[e.Backend] = b
	}
	a.number++
	return control.Revision{Number: a.number, Who: r.Who, Edits: r.Edits}, nil
}

func (a *agent) View() *view.View { return a.Now(context.Background()) }

func (a *agent) Now(context.Context) *view.View {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := view.Service{Name: "web", Protocol: model.TCP}
	for _, address := range slices.Sorted(maps.Keys(a.backends)) {
		b := a.backends[address]
		s.Backends = append(s.Backends, view.Backend{
			Address: address, Weight: b.weight, Flows: b.flows, Known: b.known, Up: b.known && b.fails == "", LastError: b.fails,
		})
		if b.known = true; b.weight == 0 && b.flows > 0 {
			b.flows--
		}
		a.backends[address] = b
	}
	return &view.View{Services: []view.Service{s}}
}

func (a *agent) Plan(context.Context, control.Request) (string, error) { return "", nil }

func (a *agent) Rollback(context.Context, uint64, control.Request) (control.Revision, error) {
	return control.Revision{}, control.ErrNotFound
}

func (a *agent) Revision() control.Revision                      { return control.Revision{} }
func (a *agent) Edits() []control.Edit                           { return nil }
func (a *agent) Export() ([]byte, error)                         { return nil, nil }
func (a *agent) History(uint64, int) ([]control.Revision, error) { return nil, nil }
func (a *agent) Watch(context.Context) <-chan struct{}           { return nil }

// nowhere is a datapath without packets.
type nowhere struct{}

func (nowhere) Flows(context.Context, *admin.Filter, func(*adminpb.Flow) bool) error { return nil }
func (nowhere) Kill(context.Context, *admin.Filter) (uint64, error)                  { return 0, nil }
func (nowhere) Stats(context.Context) (*adminpb.Stats, error)                        { return nil, admin.ErrNoXDP }

func (nowhere) Explain(context.Context, *adminpb.ExplainRequest) (*adminpb.Explanation, error) {
	return nil, admin.ErrNoXDP
}
