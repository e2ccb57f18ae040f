package admin

import (
	"context"
	"errors"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/control"
	"fairlead/userspace/view"
)

// errEnding ends streams with the agent.
var errEnding = connect.NewError(connect.CodeUnavailable, errors.New("the agent ends"))

// Kinds of events.
const (
	eventBegin    = "begin"
	eventRevision = "revision"
	eventService  = "service"
	eventBackend  = "backend"
	eventConfig   = "config"
)

func (s *service) Watch(ctx context.Context, _ *adminpb.WatchRequest, to eventStream) error {
	out, err := begin(ctx, to.Send)
	if err != nil {
		return s.server.statusOf(err)
	}
	changes := s.server.Plane.Watch(ctx)
	w := newWatcher(s.server.Plane)
	if err := out.put(w.event(eventBegin)); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return s.server.statusOf(context.Cause(ctx))
		case <-changes:
		}
		events, err := w.next()
		if err != nil {
			return s.server.statusOf(err)
		}
		for _, e := range events {
			if err := out.put(e); err != nil {
				return err
			}
		}
		rest(ctx)
	}
}

// restTime is how long a stream takes changes together at least.
const restTime = 100 * time.Millisecond

// rest lets some time go by, unless ctx is done.
func rest(ctx context.Context) {
	t := time.NewTimer(restTime)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// A watcher tells what is different from what it has told.
type watcher struct {
	plane    control.Plane
	revision uint64
	seen     *sight
}

func newWatcher(p control.Plane) *watcher {
	return &watcher{plane: p, revision: p.Revision().Number, seen: newSight(p.View())}
}

func (w *watcher) event(kind string) *adminpb.Event {
	return &adminpb.Event{Time: timestamppb.New(time.Now()), Kind: kind, Revision: w.revision}
}

// next returns what has become different, revisions first.
func (w *watcher) next() ([]*adminpb.Event, error) {
	events, err := w.revisions()
	if err != nil {
		return nil, err
	}
	now := newSight(w.plane.View())
	if now.configError != w.seen.configError {
		e := w.event(eventConfig)
		e.Reason = now.configError
		events = append(events, e)
	}
	for _, k := range w.seen.changed(now) {
		e := w.event(eventBackend)
		if k.backend == "" {
			e.Kind = eventService
		}
		e.Service, e.Pool, e.Backend = k.service, k.pool, k.backend
		e.From, e.To, e.Reason = w.seen.state[k].is, now.state[k].is, now.state[k].why
		events = append(events, e)
	}
	w.seen = now
	return events, nil
}

// revisions returns those that were made since, the oldest first; of very many the
// newest.
func (w *watcher) revisions() ([]*adminpb.Event, error) {
	newest := w.plane.Revision()
	if newest.Number == w.revision {
		return nil, nil
	}
	all := []control.Revision{newest}
	if newest.Number > w.revision+1 {
		var err error
		if all, err = w.plane.History(newest.Number+1, int(min(newest.Number-w.revision, historyPage))); err != nil {
			return nil, err
		}
	}
	events := make([]*adminpb.Event, len(all))
	for i, r := range slices.Backward(all) {
		r.Difference = ""
		e := &adminpb.Event{Time: timestamppb.New(r.Time), Kind: eventRevision, Revision: r.Number, Change: &adminpb.Revision{}}
		if err := adminpb.Fill(e.Change, &r); err != nil {
			return nil, err
		}
		events[len(all)-1-i] = e
	}
	w.revision = newest.Number
	return events, nil
}

// A sight is what a watcher looks at in a view.
type sight struct {
	configError string
	state       map[subject]state
	order       []subject
}

// A subject is a service, or a backend of a pool of it.
type subject struct{ service, pool, backend string }

// A state is how a subject is: the rung of a service, the status of a backend.
type state struct{ is, why string }

// newSight returns what is in a view; nil is an empty one.
func newSight(v *view.View) *sight {
	if v == nil {
		v = &view.View{}
	}
	s := &sight{configError: v.ConfigError, state: map[subject]state{}}
	add := func(k subject, x state) {
		s.state[k] = x
		s.order = append(s.order, k)
	}
	for i := range v.Services {
		add(subject{service: v.Services[i].Name}, state{string(v.Services[i].Rung), v.Services[i].Reason})
	}
	for _, p := range poolsOf(v) {
		service := "" // nobody may send to it
		if len(p.services) > 0 {
			service = p.services[0]
		}
		for _, b := range p.backends {
			why := b.LastError
			if b.Ejected != nil {
				why = "ejected for requests that failed"
			}
			add(subject{service: service, pool: p.name, backend: b.Address}, state{string(statusOf(b)), why})
		}
	}
	return s
}

// changed returns subjects that are not in another sight as they are in this one.
func (s *sight) changed(now *sight) (all []subject) {
	for _, k := range s.order {
		if _, ok := now.state[k]; !ok {
			all = append(all, k)
		}
	}
	for _, k := range now.order {
		if was, ok := s.state[k]; !ok || was.is != now.state[k].is {
			all = append(all, k)
		}
	}
	return all
}
