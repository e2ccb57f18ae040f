package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"fairlead/client"
	"fairlead/cmd/internal/command/status"
	"fairlead/cmd/internal/command/top"
	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// elsewhere has top ask the agent that --lb names; without that it looks for itself.
func elsewhere(w world) top.Elsewhere {
	return top.Elsewhere{Flags: targetFlags(), Ask: func(c *cli.Context) (func() (*status.Status, error), func(), error) {
		target := c.String("lb")
		if target == "" {
			return nil, func() {}, nil
		}
		lb, err := reach(c, target)
		if err != nil {
			return nil, nil, err
		}
		return func() (*status.Status, error) {
			s, err := standing(c.Context, lb, w.now)
			return s, said(target, err)
		}, lb.Close, nil
	}}
}

// standing asks an agent how things stand.
func standing(ctx context.Context, lb *client.Client, now func() time.Time) (*status.Status, error) {
	is, err := lb.GetStatus(ctx, &adminpb.GetStatusRequest{})
	if err != nil {
		return nil, err
	}
	list, err := lb.ListServices(ctx, &adminpb.ListServicesRequest{})
	if err != nil {
		return nil, err
	}
	stats, err := lb.GetStats(ctx, &adminpb.GetStatsRequest{})
	if err != nil {
		return nil, err
	}
	v := &view.View{
		PID: int(is.GetPid()), Written: list.GetWritten().AsTime(), Config: is.GetConfig(),
		XDP: view.XDP{Mode: model.XDPMode(is.GetXdp().GetMode()), Reason: is.GetXdp().GetReason()},
	}
	for _, s := range list.GetServices() {
		v.Services = append(v.Services, serviceView(s))
	}
	return status.Told(v, kernelView(stats, v.PID), now()), nil
}

// serviceView returns what an agent tells of a service.
func serviceView(s *adminpb.Service) view.Service {
	v := view.Service{
		Name: s.GetName(), Listen: s.GetListen(), Protocol: model.Protocol(s.GetProtocol()), Rung: view.Rung(s.GetRung()), Reason: s.GetReason(),
		Proxied: proxiedView(s.GetProxied()),
	}
	for _, b := range s.GetBackends() {
		x := view.Backend{
			Address: b.GetAddress(), Name: b.GetName(), Pool: b.GetPool(), Weight: int(b.GetWeight()), Share: int(b.GetSharePercent()),
			Backup: b.GetBackup(), Zone: b.GetZone(), Serves: b.GetServes(), Flows: int(b.GetFlows()), Up: b.GetUp(), Known: b.GetKnown(),
			LastError: b.GetLastError(), Drains: timeOf(b.GetDrains()), Ejected: timeOf(b.GetEjected()), Proxied: proxiedView(b.GetProxied()),
		}
		if u := b.GetSuspect(); u != nil {
			x.Suspect = &view.Suspicion{Since: u.GetSince().AsTime(), Unanswered: u.GetUnanswered(), Refused: u.GetRefused(), Resets: u.GetResets()}
		}
		if l := b.GetLatency(); l != nil {
			x.Latency = &view.Latency{Count: l.GetCount(), Median: l.GetMedianSeconds(), P95: l.GetP95Seconds(), P99: l.GetP99Seconds()}
		}
		v.Backends = append(v.Backends, x)
	}
	return v
}

func proxiedView(p *adminpb.Proxied) *view.Proxied {
	if p == nil {
		return nil
	}
	return &view.Proxied{
		Connections: p.GetConnections(), Active: p.GetActive(), Requests: p.GetRequests(), ToBackends: p.GetToBackendsBytes(), ToClients: p.GetToClientsBytes(),
	}
}

// timeOf returns a time, nil if there is none.
func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	return new(t.AsTime())
}

// kernelView returns what an agent tells of the kernel; nil if XDP is not attached.
func kernelView(stats *adminpb.Stats, pid int) *kernel.View {
	if stats.GetSwitch() == "" {
		return nil
	}
	k := &kernel.View{
		Mode: stats.GetSwitch(), AgentPID: pid, Flows: int(stats.GetHeldFlows()), FlowTable: uint32(stats.GetFlowTable()),
		View: datapath.View{Verdicts: stats.GetVerdicts(), At: stats.GetTime().AsTime()},
	}
	for _, s := range stats.GetServices() {
		v := datapath.ServiceView{
			Name: s.GetName(), Listen: s.GetListen(), Protocol: model.Protocol(s.GetProtocol()), Live: new(int(s.GetConnections())),
			Counters: countersView(s.GetCounters()),
		}
		for _, b := range s.GetBackends() {
			v.Backends = append(v.Backends, datapath.BackendView{
				Address: b.GetAddress(), State: b.GetState(), Live: new(int(b.GetConnections())), Counters: countersView(b.GetCounters()),
			})
		}
		k.Services = append(k.Services, v)
	}
	return k
}

func countersView(c *adminpb.Counters) datapath.Counters {
	return datapath.Counters{
		Flows: c.GetFlows(), ForwardPackets: c.GetForwardPackets(), ForwardBytes: c.GetForwardBytes(), ReplyPackets: c.GetReplyPackets(), ReplyBytes: c.GetReplyBytes(),
	}
}
