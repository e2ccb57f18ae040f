package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

	"fairlead/loader"
	"fairlead/userspace/admin"
	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
)

// packets knows flows and packets for the admin API; see [admin.Datapath].
type packets struct {
	agent *agent
	// explaining: each explanation loads a program, so they come one by one.
	explaining sync.Mutex
}

var errNoXDP = fmt.Errorf("%w: the agent runs without it", admin.ErrNoXDP)

// inKernel calls f with the maps, if the agent has some.
func (p *packets) inKernel(f func(*loader.Maps) error) error {
	if p.agent.lock == nil {
		return nil
	}
	return onInstance(p.agent.opts.PinDir, f)
}

// A proxied is a front by what the configuration calls its service.
type proxied struct {
	service  string
	protocol model.Protocol
	front    *front
}

// fronts returns those that a filter may mean.
func (p *packets) fronts(ctx context.Context, which *admin.Filter) []proxied {
	found := make(chan []proxied, 1)
	p.agent.send(ctx, func() {
		var all []proxied
		for _, f := range p.agent.fronts {
			s := f.table.Load().service
			if which.Service == "" || which.Service == s.Name {
				all = append(all, proxied{s.Name, s.Protocol, f})
			}
		}
		found <- all
	})
	select {
	case all := <-found:
		return all
	case <-ctx.Done():
		return nil
	}
}

// Flows implements [admin.Datapath].
func (p *packets) Flows(ctx context.Context, which *admin.Filter, f func(*adminpb.Flow) bool) error {
	on := true
	if which.Kernel {
		err := p.inKernel(func(maps *loader.Maps) error {
			return datapath.Flows(maps, func(v datapath.FlowView) bool {
				if which.Fits(v.Service, v.Protocol, v.Client, v.Backend) {
					on = f(kernelFlow(&v))
				}
				return on
			})
		})
		if err != nil || !on {
			return err
		}
	}
	if !which.Proxy {
		return nil
	}
	for _, x := range p.fronts(ctx, which) {
		for _, c := range x.front.proxied() {
			if which.Fits(x.service, x.protocol, c.Client, c.Backend) && !f(x.flow(&c)) {
				return nil
			}
		}
	}
	return ctx.Err()
}

func kernelFlow(v *datapath.FlowView) *adminpb.Flow {
	return &adminpb.Flow{
		Service: v.Service, Protocol: string(v.Protocol), Client: v.Client.String(), Virtual: v.Virtual.String(), Backend: v.Backend.String(),
		Path: "kernel", State: v.State, IdleSeconds: v.Idle, LeftSeconds: v.Left,
	}
}

func (x *proxied) flow(c *model.Proxied) *adminpb.Flow {
	m := &adminpb.Flow{
		Service: x.service, Protocol: string(x.protocol), Client: c.Client.String(), Virtual: c.Virtual.String(), Path: "proxy", State: "established",
	}
	if c.Backend.IsValid() {
		m.Backend = c.Backend.String()
	}
	return m
}

// proxied returns what clients have with the front.
func (f *front) proxied() []model.Proxied {
	switch {
	case f.udp != nil:
		return f.udp.Proxied()
	case f.http != nil:
		return f.http.proxy.Proxied()
	}
	return f.tcp.Proxied()
}

// kill ends what clients have with the front, and returns how much of it.
func (f *front) kill(which func(model.Proxied) bool) int {
	switch {
	case f.udp != nil:
		return f.udp.Kill(which)
	case f.http != nil:
		return f.http.proxy.Kill(which)
	}
	return f.tcp.Kill(which)
}

// Kill implements [admin.Datapath].
func (p *packets) Kill(ctx context.Context, which *admin.Filter) (killed uint64, err error) {
	if which.Kernel {
		err = p.inKernel(func(maps *loader.Maps) error {
			n, err := datapath.Kill(maps, func(v *datapath.FlowView) bool {
				return which.Fits(v.Service, v.Protocol, v.Client, v.Backend)
			})
			killed += uint64(n)
			return err
		})
		if err != nil {
			return killed, err
		}
	}
	if !which.Proxy {
		return killed, nil
	}
	for _, x := range p.fronts(ctx, which) {
		killed += uint64(x.front.kill(func(c model.Proxied) bool {
			return which.Fits(x.service, x.protocol, c.Client, c.Backend)
		}))
	}
	return killed, ctx.Err()
}

// Stats implements [admin.Datapath].
func (p *packets) Stats(context.Context) (*adminpb.Stats, error) {
	m := &adminpb.Stats{Time: timestamppb.Now()}
	err := p.inKernel(func(maps *loader.Maps) error {
		v, err := datapath.Read(maps)
		if err != nil {
			return err
		}
		if err := adminpb.Fill(m, v.Totals()); err != nil {
			return err
		}
		m.Time = timestamppb.New(v.At)
		m.Verdicts, m.Evictions, m.Switch = v.Verdicts, v.Evictions, maps.ControlView().Mode().String()
		m.HeldFlows, m.FlowTable = uint64(max(0, p.agent.held.Load())), uint64(maps.FlowRoom())+uint64(maps.FlowRoom6())
		for i := range v.Services {
			m.Services = append(m.Services, serviceStats(&v.Services[i]))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	m.Proxy = &adminpb.Proxy{}
	if v := p.agent.latest.Load(); v != nil {
		err = adminpb.Fill(m.Proxy, v.Proxy)
		m.ProxyTime = timestamppb.New(v.Written)
	}
	return m, err
}

func serviceStats(s *datapath.ServiceView) *adminpb.ServiceStats {
	m := &adminpb.ServiceStats{
		Name: s.Name, Connections: uint64(s.Connections), Counters: countersOf(&s.Counters), Listen: s.Listen, Protocol: string(s.Protocol),
	}
	for i := range s.Backends {
		b := &s.Backends[i]
		m.Backends = append(m.Backends, &adminpb.BackendStats{
			Address: b.Address, Connections: uint64(b.Connections), Counters: countersOf(&b.Counters), State: b.State,
		})
	}
	return m
}

func countersOf(c *datapath.Counters) *adminpb.Counters {
	return &adminpb.Counters{
		Flows: c.Flows, ForwardPackets: c.ForwardPackets, ForwardBytes: c.ForwardBytes, ReplyPackets: c.ReplyPackets, ReplyBytes: c.ReplyBytes,
		Unanswered: c.Unanswered, Refused: c.Refused, Resets: c.Resets,
	}
}

// Explain implements [admin.Datapath].
func (p *packets) Explain(ctx context.Context, r *adminpb.ExplainRequest) (*adminpb.Explanation, error) {
	q, err := asked(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", admin.ErrRequest, err)
	}
	if p.agent.lock == nil {
		return nil, errNoXDP
	}
	p.explaining.Lock()
	defer p.explaining.Unlock()
	e, err := kernel.Explain(ctx, p.agent.opts.PinDir, q, r.GetInterface())
	switch {
	case errors.Is(err, loader.ErrNotAttached):
		return nil, fmt.Errorf("%w: %w", admin.ErrNoXDP, err)
	case errors.Is(err, loader.ErrNoInterface), errors.Is(err, loader.ErrNoRoute):
		return nil, fmt.Errorf("%w: %w", admin.ErrRequest, err)
	case err != nil:
		return nil, err
	}
	kernel.Describe(&e.Packet, q)
	kernel.AddAgent(e, p.agent.latest.Load())
	m := &adminpb.Explanation{}
	return m, adminpb.Fill(m, e)
}

var errProtocol = errors.New("use tcp or udp")

// asked returns the packet that a call is about.
func asked(r *adminpb.ExplainRequest) (q loader.Question, err error) {
	const defaultTTL = 64
	a := kernel.Asked{From: r.GetFrom(), To: r.GetTo(), Flags: r.GetFlags(), TTL: defaultTTL, Length: uint(r.GetLength())}
	switch model.Protocol(r.GetProtocol()) {
	case "", model.TCP:
		if len(a.Flags) == 0 {
			a.Flags = []string{"syn"}
		}
	case model.UDP:
		a.UDP = true
	default:
		return q, fmt.Errorf("protocol is %q: %w", r.GetProtocol(), errProtocol)
	}
	if r.Ttl != nil {
		a.TTL = uint(r.GetTtl())
	}
	return a.Question("")
}
