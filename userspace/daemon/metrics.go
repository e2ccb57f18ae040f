package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"fairlead/userspace/config"
	"fairlead/userspace/httpproxy"
	"fairlead/userspace/metrics"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// metricsOff is the address where nobody may ask for metrics.
const metricsOff = "off"

// errEnding says that an agent answers no more.
var errEnding = errors.New("the agent ends")

// checkMetrics refuses a state with a service that listens where metrics are told.
func (a *agent) checkMetrics(state *model.State) error {
	for i := range state.Services {
		if s := &state.Services[i]; config.Clashes(a.opts.Metrics, s) {
			return fmt.Errorf("%w: %s: service %q listens on %s and metrics on %s: change listen or metrics",
				config.ErrInvalid, a.opts.Config, s.Name, s.ListenText(), a.opts.Metrics)
		}
	}
	return nil
}

// openMetrics listens where metrics are told.
func (a *agent) openMetrics(ctx context.Context) error {
	if a.opts.Metrics == metricsOff {
		return nil
	}
	l, err := a.sockets.metrics(ctx, a.opts.Metrics)
	if err != nil {
		return fmt.Errorf("tell metrics: %w; choose another address with --metrics, or off", err)
	}
	a.metrics = l
	return nil
}

// serveMetrics tells metrics until ctx is done.
func (a *agent) serveMetrics(ctx context.Context) {
	if a.metrics == nil {
		return
	}
	if err := metrics.Serve(ctx, a.metrics, a.snapshot, a.log); ctx.Err() == nil {
		a.log.Error("tell metrics", "err", err)
	}
}

// snapshot returns what is known now. It may be called from any goroutine.
func (a *agent) snapshot(ctx context.Context) (*metrics.Snapshot, error) {
	ready := make(chan *metrics.Snapshot, 1)
	a.send(ctx, func() { ready <- a.look() })
	select {
	case s := <-ready:
		return s, nil
	case <-ctx.Done():
		return nil, errEnding
	}
}

func (a *agent) look() *metrics.Snapshot {
	s := &metrics.Snapshot{ReloadFailed: a.configError != ""}
	flows, _ := a.flows()
	for i := range a.state.Services {
		conf := &a.state.Services[i]
		if f := a.fronts[conf.Key()]; f != nil {
			s.Services = append(s.Services, f.measure(conf))
		}
		s.Certificates = append(s.Certificates, a.measureCertificates(conf)...)
		backends, _ := a.backendViews(conf) // none of an HTTP service
		for b := range backends {
			backends[b].Flows = flows[i][b]
			s.Backends = append(s.Backends, measured(&backends[b], conf.Name, ""))
		}
	}
	for i := range a.state.Pools {
		s.Backends = append(s.Backends, a.measurePool(&a.state.Pools[i])...)
	}
	return s
}

// measureCertificates returns what a service shows its clients, each once.
func (a *agent) measureCertificates(conf *model.Service) (all []metrics.Certificate) {
	for _, c := range a.certificateViews(conf) {
		m := metrics.Certificate{Service: conf.Name, File: c.File, Names: strings.Join(c.Names, " "), NotAfter: c.NotAfter}
		if !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	return all
}

// measurePool returns what is known of the backends of a pool.
func (a *agent) measurePool(conf *model.Pool) (all []metrics.Backend) {
	p := a.pools[conf.Name]
	stats, chooser := p.http.Stats(), p.tcp.Load().chooser
	backends, _ := a.backendViews(&conf.Service)
	ejected := p.http.Ejected()
	for b := range backends {
		backends[b].Serves = backends[b].Serves && ejected[b].IsZero()
		m, s := measured(&backends[b], conf.OwnerName(), conf.GivenName()), &stats[b]
		m.HTTP, m.Active, m.Failures = true, int64(chooser.Flows(b)), s.Failures
		m.Requests = requests(s.Attempts, s.Answers, s.Times)
		all = append(all, m)
	}
	return all
}

func measured(v *view.Backend, service, pool string) metrics.Backend {
	return metrics.Backend{Service: service, Pool: pool, Address: v.Address, Up: v.Up, Serves: v.Serves, Active: int64(v.Flows)}
}

func requests(begun uint64, answers [4]uint64, t httpproxy.Times) metrics.Requests {
	return metrics.Requests{Begun: begun, Answers: answers, Bounds: httpproxy.Bounds[:], Times: slices.Clone(t.Counts[:]), Sum: t.Sum}
}

// measure returns what the front has counted.
func (f *front) measure(conf *model.Service) metrics.Service {
	m := metrics.Service{Name: conf.Name, Protocol: string(conf.Protocol)}
	switch {
	case f.udp != nil:
		s := f.udp.Stats()
		m.Accepted, m.Active, m.Refused, m.NoBackend = s.Opened, int64(s.Flows), s.Denied+s.SourceLimit, s.NoBackend
	case f.http != nil:
		s := f.http.proxy.Stats()
		m.Protocol = "http"
		m.Accepted, m.Active, m.Refused, m.NoBackend, m.Retries = s.Accepted, s.Active, s.Denied+s.SourceLimit, s.NoBackend, s.Retries
		m.Requests = requests(s.Requests, s.Answers, s.Times)
	default:
		s := f.tcp.Stats()
		m.Accepted, m.Active, m.Refused, m.NoBackend, m.Retries = s.Accepted, s.Active, s.Denied+s.SourceLimit, s.NoBackend, s.Retries
	}
	return m
}
