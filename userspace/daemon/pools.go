package daemon

import (
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"fairlead/userspace/httpproxy"
	"fairlead/userspace/model"
	"fairlead/userspace/origin"
	"fairlead/userspace/view"
)

// A pool is a set of backends that HTTP services send requests to. It belongs to
// the goroutine of loop.
type pool struct {
	http *httpproxy.Pool
	// tcp is what connections to the pool go by, and has the chooser of both; nil
	// at first.
	tcp     atomic.Pointer[table]
	serving model.Serving
}

// keepPools makes the pools those of the state in force, as far as it names them.
func (a *agent) keepPools() {
	for i := range a.state.Pools {
		a.keepPool(&a.state.Pools[i])
	}
}

func (a *agent) keepPool(conf *model.Pool) {
	if a.pools[conf.Name] == nil {
		a.pools[conf.Name] = &pool{http: httpproxy.NewPool(a.log)}
		a.pools[conf.Name].http.First = origin.Header
	}
	a.updatePool(conf)
}

// logServing says who serves a service or pool from now on.
func logServing(log *slog.Logger, now model.Serving, what, name string) {
	if now == model.ServingNone {
		log.Warn("no backend serves", what, name)
		return
	}
	log.Info("other backends serve", what, name, "serving", now)
}

// updatePool gives a pool what is known of its backends by now.
func (a *agent) updatePool(conf *model.Pool) {
	p, j := a.pools[conf.Name], a.judge(&conf.Service)
	old := p.tcp.Load()
	t := newTable(&conf.Service, j, old)
	if now := t.duties[0].Serving; now != p.serving {
		if old != nil {
			logServing(a.log, now, "pool", conf.Name)
		}
		p.serving = now
	}
	p.tcp.Store(t)
	p.http.UseTLS(a.safe.clients[conf.Name])
	signed := *conf
	signed.Sticky.Key = a.stickyKey(&conf.Sticky)
	p.http.Update(&signed, t.chooser)
}

// dropPools forgets those that the state in force does not name any more. Requests
// that are with their backends go on.
func (a *agent) dropPools() {
	for name, p := range a.pools {
		if !slices.ContainsFunc(a.state.Pools, func(conf model.Pool) bool { return conf.Name == name }) {
			p.http.Close()
			delete(a.pools, name)
		}
	}
}

// pool returns one of the state in force by its name.
func (a *agent) pool(name string) *pool { return a.pools[name] }

// poolViews returns the backends of the pools that a service sends requests to,
// each once.
func (a *agent) poolViews(s *model.Service) []view.Backend {
	all, seen := []view.Backend{}, map[string]bool{}
	for _, name := range poolsOf(s) {
		p := a.pools[name]
		if seen[name] || p == nil {
			continue
		}
		seen[name] = true
		i := slices.IndexFunc(a.state.Pools, func(conf model.Pool) bool { return conf.Name == name })
		conf := &a.state.Pools[i]
		backends, _ := a.backendViews(&conf.Service)
		p.tellLatency(backends, s.Forward == model.ForwardHTTP)
		ejected := p.http.Ejected()
		for b := range backends {
			backends[b].Pool, backends[b].Flows = conf.GivenName(), p.tcp.Load().chooser.Flows(b)
			if !ejected[b].IsZero() {
				backends[b].Ejected = &ejected[b]
			}
		}
		all = append(all, backends...)
	}
	return all
}

// otherPools returns the pools that no backend of some services is of.
func (a *agent) otherPools(services []view.Service, absent map[string][]view.Backend) (all []view.Pool) {
	shown := map[string]bool{}
	for i := range services {
		for b := range services[i].Backends {
			shown[services[i].Backends[b].Pool] = true
		}
	}
	senders := map[string][]string{}
	for i := range a.state.Services {
		s := &a.state.Services[i]
		for _, name := range poolsOf(s) {
			if !slices.Contains(senders[name], s.Name) {
				senders[name] = append(senders[name], s.Name)
			}
		}
	}
	for i := range a.state.Pools {
		conf := &a.state.Pools[i]
		if name := conf.GivenName(); name != "" && !shown[name] {
			backends, _ := a.backendViews(&conf.Service)
			all = append(all, view.Pool{Name: name, Services: senders[name], Backends: append(backends, absent[name]...)})
		}
	}
	return all
}

// tellLatency adds how long the backends of a pool take: to answer, or to accept.
func (p *pool) tellLatency(all []view.Backend, http bool) {
	now := time.Now()
	if !http {
		p.tcp.Load().tellConnects(all, now)
		return
	}
	stats := p.http.Stats()
	for b := range all {
		all[b].Latency = latencyView(stats[b].Latency.Recent(now))
		if n := stats[b].Attempts; n > 0 {
			all[b].Proxied = &view.Proxied{Requests: n}
		}
	}
}

// sentTo returns the names of what has the backends of a service, each once: its pools,
// or itself.
func sentTo(s *model.Service) []string {
	names := poolsOf(s)
	if len(names) == 0 {
		return []string{s.Name}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// poolsOf returns the names of the pools that a service sends to, some perhaps
// more than once.
func poolsOf(s *model.Service) (names []string) {
	for _, r := range s.Names {
		names = append(names, r.Pool)
	}
	for i := range s.HTTP.Routes {
		names = append(names, s.HTTP.Routes[i].PoolNames()...)
	}
	return names
}
