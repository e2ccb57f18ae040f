package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"fairlead/userspace/config"
	"fairlead/userspace/latency"
	"fairlead/userspace/metrics"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// metricsOff is the address where nobody may ask for metrics.
const metricsOff = "off"

// errEnding says that an agent answers no more.
var errEnding = errors.New("the agent ends")

// checkMetrics refuses a state with a service that listens where metrics are told or
// the page is, which must not be one.
func (a *agent) checkMetrics(state *model.State) error {
	if config.SameListener(a.opts.Metrics, a.opts.Web) {
		return fmt.Errorf("%w: metrics are told on %s and the page is on %s: change metrics or web", config.ErrInvalid, a.opts.Metrics, a.opts.Web)
	}
	for i := range state.Services {
		for what, own := range map[string]string{"metrics": a.opts.Metrics, "web": a.opts.Web} {
			if s := &state.Services[i]; config.Clashes(own, s) {
				return fmt.Errorf("%w: %s: service %q listens on %s and %s on %s: change listen or %s",
					config.ErrInvalid, a.opts.Config, s.Name, s.ListenText(), what, own, what)
			}
		}
	}
	return nil
}

// openMetrics listens where metrics are told.
func (a *agent) openMetrics(ctx context.Context) error {
	if a.opts.Metrics == metricsOff {
		return nil
	}
	l, err := a.sockets.own(ctx, "metrics", a.opts.Metrics)
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
		return s, a.addDatapath(s) // which takes a while with many services
	case <-ctx.Done():
		return nil, errEnding
	}
}

func (a *agent) look() *metrics.Snapshot {
	s := &metrics.Snapshot{Version: a.opts.Version, ReloadFailed: a.configError != "", ReloadedAt: a.reloaded, Fragments: a.holder.measure()}
	for _, i := range a.interfaceViews() {
		s.Interfaces = append(s.Interfaces, metrics.Interface{Name: i.Name, Mode: i.Mode})
	}
	if a.kernel != nil {
		s.Datapath = &metrics.Datapath{}
	}
	flows, _ := a.flows()
	for i := range a.state.Services {
		conf := &a.state.Services[i]
		if f := a.fronts[conf.Key()]; f != nil {
			m := f.measure(conf)
			on, _ := a.rung(i)
			m.Rung = string(on)
			s.Services = append(s.Services, m)
		}
		s.Certificates = append(s.Certificates, a.measureCertificates(conf)...)
		backends, _ := a.backendViews(conf) // none of an HTTP service
		for b := range backends {
			backends[b].Flows = flows[i][b]
			m := a.measured(conf, b, &backends[b])
			m.Service = conf.Name
			if f := a.fronts[conf.Key()]; f != nil && f.tcp != nil {
				m.Connects = latencyOf(f.table.Load().connects[b])
			}
			s.Backends = append(s.Backends, m)
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
		m, s := a.measured(&conf.Service, b, &backends[b]), &stats[b]
		m.Service, m.Pool = conf.OwnerName(), conf.GivenName()
		m.HTTP, m.Active, m.Failures = true, int64(chooser.Flows(b)), s.Failures
		m.Requests = requests(s.Attempts, s.Answers, s.Latency)
		m.Connects = latencyOf(p.tcp.Load().connects[b])
		all = append(all, m)
	}
	return all
}

// measured returns what is known of the b-th backend of a service, whatever it is
// spoken to.
func (a *agent) measured(s *model.Service, b int, v *view.Backend) metrics.Backend {
	m := metrics.Backend{Address: v.Address, Up: v.Up, Serves: v.Serves, Active: int64(v.Flows)}
	if p, ok := a.checker.Probes(a.roster.checks[s.Key()][b]); ok {
		m.Probes = &metrics.Probes{Successes: p.Successes, Failures: p.Failures, Latency: p.Latency.Totals()}
	}
	return m
}

func requests(begun uint64, answers map[int]uint64, r *latency.Recorder) metrics.Requests {
	return metrics.Requests{Begun: begun, Answers: answers, Latency: *latencyOf(r)}
}

func latencyOf(r *latency.Recorder) *metrics.Latency {
	return &metrics.Latency{Totals: r.Totals(), Recent: r.Recent(time.Now())}
}
