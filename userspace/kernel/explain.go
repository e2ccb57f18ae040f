package kernel

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// Explain asks the instance in dir what would become of a packet that comes in by an
// interface; "": by the one to its sender. Where no agent runs it says so. It must be
// called in the network namespace that the instance is attached in.
func Explain(ctx context.Context, dir string, q loader.Question, iface string) (*datapath.Explanation, error) {
	inst, at, err := openAt(ctx, dir, q.From.Addr(), iface)
	if err != nil {
		return nil, err
	}
	defer inst.Close()
	x, err := datapath.NewExplainer(inst, q.From.Addr().Is6())
	if err != nil {
		return nil, err
	}
	defer x.Close()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := x.Explain(q, at)
	if err != nil {
		return nil, err
	}
	_, _, agent, err := loader.AgentRunning(dir)
	if err == nil && !agent {
		LeaveAlone(e)
	}
	return e, err
}

// LeaveAlone says that no agent runs, so that nobody serves what is the proxy's.
func LeaveAlone(e *datapath.Explanation) {
	if e.Service != nil && e.Service.Rung == string(view.RungProxy) {
		e.Service.Rung, e.Service.Reason = string(view.RungNone), "it is the proxy's, and no agent runs"
	}
}

// openAt opens an instance, and finds where packets of a client come in. An upgrade
// waits until both are of one version, and no longer.
func openAt(ctx context.Context, dir string, client netip.Addr, iface string) (*loader.Instance, loader.Ingress, error) {
	var at loader.Ingress
	lock, err := loader.NewSharedLock(ctx, dir)
	if err != nil {
		return nil, at, err
	}
	inst, err := loader.Open(dir)
	if err == nil {
		at, err = inst.Ingress(iface, client)
	}
	if err = errors.Join(err, lock.Unlock()); err == nil {
		return inst, at, nil
	}
	if inst != nil {
		err = errors.Join(err, inst.Close())
	}
	return nil, at, err
}

// Describe adds to p what was asked about it.
func Describe(p *datapath.PacketView, q loader.Question) {
	p.Protocol, p.Length = model.UDP, max(int(q.Length), q.Least())
	if q.UDP {
		return
	}
	p.Protocol = model.TCP
	for _, word := range flagWords {
		if q.Flags&flagBits[word] != 0 {
			p.Flags = append(p.Flags, word)
		}
	}
}

// AddAgent adds what the view of an agent, nil for none, says beyond the kernel.
func AddAgent(e *datapath.Explanation, v *view.View) {
	if v == nil || e.Service == nil {
		return
	}
	at := slices.IndexFunc(v.Services, func(s view.Service) bool { return s.Name == e.Service.Name })
	if at < 0 {
		return
	}
	s := &v.Services[at]
	e.Service.Serving, e.Service.Zone = s.Serving, s.Zone
	if e.ClientZone != nil && *e.ClientZone != "" {
		e.Service.Serving = s.ClientZones[*e.ClientZone]
	}
	if e.Service.Rung == "proxy" {
		e.Service.Reason = s.Reason
	}
	if e.Choice == nil {
		return
	}
	if s.Balance == model.ResponseTime {
		e.Choice.Balance = string(s.Balance) // which the kernel has as weights of turns
	}
	for i := range e.Choice.Rest {
		o := &e.Choice.Rest[i]
		b := slices.IndexFunc(s.Backends, func(b view.Backend) bool { return b.Address == o.Backend })
		if o.Why == datapath.WhyNoWeight && b >= 0 {
			waits(o, &s.Backends[b])
		}
	}
}

// waits says why a backend is not to have new flows.
func waits(o *datapath.Other, b *view.Backend) {
	wait := b.Wait()
	if wait == "" {
		return // it has some by now
	}
	if o.Why = datapath.Why(wait); wait == view.WaitZone {
		o.Zone = b.Zone
	}
}
