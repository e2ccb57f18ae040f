package daemon

import (
	"cmp"
	"os"
	"time"

	"fairlead/loader"
	"fairlead/userspace/balance"
	"fairlead/userspace/kernel"
	"fairlead/userspace/latency"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// publishLate is how old the view may get before it is written again.
const publishLate = 5 * time.Second

// publish writes what the agent knows where others can read it. Where there is
// so much to write that it would take more than a twentieth of the agent's
// time, the view gets somewhat older: again says when it is written at the latest.
func (a *agent) publish() {
	if wait := min(20*a.cost, publishLate) - time.Since(a.published); wait > 0 {
		if a.again == nil {
			a.again = time.After(wait)
		}
		return
	}
	a.again = nil
	start := time.Now()
	v := a.view()
	if err := view.Write(a.opts.RunDir, v); a.news("publish", err) {
		a.log.Error("publish", "err", err)
	}
	a.latest.Store(&v)
	a.plane.tell()
	a.published, a.cost = time.Now(), time.Since(start)
}

// costly is what it takes to publish so much that nobody has it done for himself.
const costly = time.Second

// publishSoon publishes for somebody who waits for it.
func (a *agent) publishSoon() {
	if a.cost < costly {
		a.published = time.Time{}
	}
	a.publish()
}

func (a *agent) view() view.View {
	v := view.View{
		PID: os.Getpid(), Started: a.started, Written: time.Now(), Config: a.opts.Config, ConfigError: a.configError, CertificateError: a.certError,
		XDP: view.XDP{Mode: a.mode(a.state), Reason: a.noXDP, Interfaces: a.interfaceViews()}, Services: []view.Service{},
	}
	if err := a.names.Missing(a.given.Load()); err != nil {
		v.NameError = err.Error()
	}
	if a.kernel != nil {
		v.PinDir = a.kernel.Instance().Dir()
		if a.kernel.Instance().Control().Mode() == loader.ModeDraining {
			v.XDP.Reason = "draining before detach"
		}
	}
	now := a.plane.inForce()
	v.Applied, v.Edits = now.base.applied, len(now.edits)-len(now.dormant)
	v.Fragments = a.holder.view()
	v.Proxy.UDP.MaxFlows = a.limits.flows.Bound()
	v.Proxy.RangeSockets, v.Proxy.MaxRangeSockets = int(a.limits.sockets.taken.Load()), int(a.limits.sockets.max)
	flows, _ := a.flows()
	absent := a.absent()
	for i := range a.state.Services {
		s := &a.state.Services[i]
		v.Services = append(v.Services, a.serviceView(i, s))
		for b := range s.Backends {
			v.Services[i].Backends[b].Flows = flows[i][b]
		}
		for _, name := range sentTo(s) {
			v.Services[i].Backends = append(v.Services[i].Backends, absent[name]...)
		}
		if f := a.fronts[s.Key()]; f != nil {
			f.count(&v.Proxy)
		}
	}
	v.Pools, v.Revision = a.otherPools(v.Services, absent), a.plane.Revision().Number
	a.addLast(&v)
	return v
}

func (a *agent) interfaceViews() []view.Interface {
	all := []view.Interface{}
	for _, name := range a.interfaces(a.state) {
		i := view.Interface{Name: name}
		switch {
		case a.out[name]:
			i.Reason = takenOut
		case a.kernel != nil:
			for _, r := range a.attach.Interfaces {
				if r.Name == name {
					i.Mode, i.Reason = string(r.Mode), r.Reason
				}
			}
		}
		all = append(all, i)
	}
	return all
}

func (a *agent) serviceView(i int, s *model.Service) view.Service {
	v := view.Service{Name: s.Name, Listen: s.ListenText(), Protocol: s.Protocol, Forward: s.Forward, Balance: s.Balance.Method, Zone: s.Zone}
	v.Rung, v.Reason = a.rung(i)
	v.StandbyReason = "no front"
	if f := a.fronts[s.Key()]; f != nil {
		v.Standby, v.StandbyReason = f.missing() == "", f.missing()
		v.Proxied = f.carried()
	}
	v.Certificates = a.certificateViews(s)
	if s.Forward == model.ForwardHTTP || s.Forward == model.ForwardTLS {
		v.Backends = a.poolViews(s)
		return v
	}
	var duties balance.Duties
	v.Backends, duties = a.backendViews(s)
	v.Serving = duties[0].Serving
	if f := a.fronts[s.Key()]; f != nil && f.tcp != nil {
		f.table.Load().tellConnects(v.Backends, time.Now())
	}
	for k, zone := range s.ClientZones.Names() {
		if v.ClientZones == nil {
			v.ClientZones = map[string]model.Serving{}
		}
		v.ClientZones[zone] = duties[k+1].Serving
	}
	return v
}

// backendViews returns the backends of a service or pool, and their duties.
func (a *agent) backendViews(s *model.Service) (all []view.Backend, duties balance.Duties) {
	all = []view.Backend{}
	keys := a.roster.checks[s.Key()]
	shares := a.sharesOf(s)
	duties = balance.DutiesOf(s, a.down(s), shares)
	for b := range s.Backends {
		st, _ := a.checker.StatusOf(keys[b])
		x := view.Backend{
			Address: s.Backends[b].String(), Name: s.Backends[b].Name.Host, Weight: s.Backends[b].Weight, Share: 100,
			Backup: s.Backends[b].Backup, Zone: s.Backends[b].Zone, Serves: duties.Weight(b) > 0,
			Up: !a.isDown[keys[b]], Known: st.Known && s.Health.Type != model.CheckNone, Since: st.Since, LastError: st.LastError, LastProbe: st.LastProbe,
			Suspect: a.suspects.view(memberOf(s, s.Backends[b].Address)),
		}
		if shares != nil {
			x.Share = 100 * shares[b] / balance.Whole
		}
		if s.Backends[b].Leaving {
			until := a.drains[memberOf(s, s.Backends[b].Address)]
			x.Drains = &until
		}
		all = append(all, x)
	}
	return all, duties
}

// latencyView returns what is usual, nil if nothing was recorded lately.
func latencyView(s latency.Summary) *view.Latency {
	if s.Count == 0 {
		return nil
	}
	return &view.Latency{Count: s.Count, Median: s.Median.Seconds(), P95: s.P95.Seconds(), P99: s.P99.Seconds()}
}

// tellConnects adds how many of the proxies' connections backends have accepted, and
// how long they took.
func (t *table) tellConnects(all []view.Backend, now time.Time) {
	for b := range all {
		all[b].Latency = latencyView(t.connects[b].Recent(now))
		if n := t.connects[b].Count(); n > 0 {
			all[b].Proxied = &view.Proxied{Connections: n}
		}
	}
}

// carried returns what the front has carried.
func (f *front) carried() *view.Proxied {
	switch {
	case f.udp != nil:
		s := f.udp.Stats()
		return &view.Proxied{Connections: s.Opened, Active: int64(s.Flows), ToBackends: s.ToBackends.Bytes, ToClients: s.ToClients.Bytes}
	case f.http != nil:
		s := f.http.proxy.Stats()
		return &view.Proxied{Connections: s.Accepted, Active: s.Active, Requests: s.Requests}
	}
	s := f.tcp.Stats()
	return &view.Proxied{Connections: s.Accepted, Active: s.Active, ToBackends: s.ToBackends, ToClients: s.ToClients}
}

// rung returns what serves the i-th service, and why nothing higher does.
func (a *agent) rung(i int) (view.Rung, string) {
	switch a.state.Services[i].Forward {
	case model.ForwardHTTP:
		return view.RungHTTP, ""
	case model.ForwardTLS:
		return view.RungTLS, ""
	}
	if a.kernel == nil {
		return view.RungProxy, cmp.Or(a.noXDP, "xdp: off")
	}
	var r kernel.Rung
	if rungs := a.kernel.Rungs(); i < len(rungs) {
		r = rungs[i]
	}
	if r.Proxy {
		return view.RungProxy, r.Reason
	}
	if a.kernel.Native() {
		return view.RungNative, r.Reason
	}
	for _, i := range a.attach.Interfaces {
		if i.Reason != "" {
			return view.RungGeneric, cmp.Or(r.Reason, i.Reason)
		}
	}
	return view.RungGeneric, cmp.Or(r.Reason, "xdp: generic")
}

// count adds what the front has forwarded.
func (f *front) count(p *view.Proxy) {
	if f.udp != nil {
		s := f.udp.Stats()
		p.UDP.Flows += s.Flows
		p.UDP.Opened += s.Opened
		p.UDP.Evicted += s.Evicted
		p.UDP.ToBackends += s.ToBackends.Datagrams
		p.UDP.ToClients += s.ToClients.Datagrams
		p.UDP.NoBackend += s.NoBackend
		p.UDP.Denied += s.Denied
		p.UDP.SourceLimit += s.SourceLimit
		p.UDP.Dropped += s.Dropped
		return
	}
	if f.http != nil {
		f.http.count(&p.HTTP)
		return
	}
	s := f.tcp.Stats()
	p.TCP.Accepted += s.Accepted
	p.TCP.Active += s.Active
	p.TCP.ToBackends += s.ToBackends
	p.TCP.ToClients += s.ToClients
	p.TCP.Denied += s.Denied
	p.TCP.SourceLimit += s.SourceLimit
	p.TCP.Unannounced += s.Unannounced
	p.TCP.NoBackend += s.NoBackend
	p.TCP.Retries += s.Retries
	p.TCP.Resets += s.Resets
	p.TCP.Cut += s.Cut
	p.TCP.AcceptErrors += s.AcceptErrors
	d := s.DialErrors
	p.TCP.DialErrors += d.Refused + d.Timeout + d.Unreachable + d.Local
}
