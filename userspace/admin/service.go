package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/view"
)

// A service carries out the calls that were let through.
type service struct {
	server *Server
}

// view returns how things stand, with what every change that was answered has made of
// them; nothing before that is known.
func (s *service) view(ctx context.Context) *view.View {
	if v := s.server.Plane.Now(ctx); v != nil {
		return v
	}
	return &view.View{}
}

func (s *service) GetStatus(ctx context.Context, _ *adminpb.GetStatusRequest) (*adminpb.Status, error) {
	m := &adminpb.Status{}
	if err := adminpb.Fill(m, s.view(ctx)); err != nil {
		return nil, s.server.statusOf(err)
	}
	m.Revision = s.server.Plane.Revision().Number
	return m, nil
}

func (s *service) ListServices(ctx context.Context, r *adminpb.ListServicesRequest) (*adminpb.ListServicesResponse, error) {
	v := s.view(ctx)
	m, services := &adminpb.ListServicesResponse{Written: timestamppb.New(v.Written)}, v.Services
	for i := range services {
		x := &services[i]
		if r.GetService() != "" && r.GetService() != x.Name {
			continue
		}
		one, err := serviceOf(x)
		if err != nil {
			return nil, s.server.statusOf(err)
		}
		m.Services = append(m.Services, one)
	}
	if r.GetService() != "" && len(m.Services) == 0 {
		return nil, s.server.statusOf(notFound("service", r.GetService()))
	}
	return m, nil
}

func serviceOf(v *view.Service) (*adminpb.Service, error) {
	m := &adminpb.Service{}
	if err := adminpb.Fill(m, v); err != nil {
		return nil, err
	}
	for i := range m.Backends {
		m.Backends[i].Status = string(statusOf(&v.Backends[i]))
	}
	return m, nil
}

func (s *service) ListPools(ctx context.Context, _ *adminpb.ListPoolsRequest) (*adminpb.ListPoolsResponse, error) {
	pools, err := s.pools(ctx, "")
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	return &adminpb.ListPoolsResponse{Pools: pools}, nil
}

func (s *service) GetHealth(ctx context.Context, r *adminpb.GetHealthRequest) (*adminpb.GetHealthResponse, error) {
	pools, err := s.pools(ctx, r.GetPool())
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	return &adminpb.GetHealthResponse{Pools: pools}, nil
}

func (s *service) pools(ctx context.Context, name string) ([]*adminpb.Pool, error) {
	var all []*adminpb.Pool
	for _, p := range poolsOf(s.view(ctx)) {
		if name != "" && p.name != name {
			continue
		}
		m := &adminpb.Pool{Name: p.name, Services: p.services, Status: string(p.status())}
		for _, b := range p.backends {
			one := &adminpb.Backend{}
			if err := adminpb.Fill(one, b); err != nil {
				return nil, err
			}
			one.Status = string(statusOf(b))
			m.Backends = append(m.Backends, one)
		}
		all = append(all, m)
	}
	if name != "" && len(all) == 0 {
		return nil, notFound("pool", name)
	}
	return all, nil
}

func (s *service) GetStats(ctx context.Context, _ *adminpb.GetStatsRequest) (*adminpb.Stats, error) {
	m, err := s.server.Datapath.Stats(ctx)
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	return m, nil
}

func (s *service) Explain(ctx context.Context, r *adminpb.ExplainRequest) (*adminpb.Explanation, error) {
	m, err := s.server.Datapath.Explain(ctx, r)
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	return m, nil
}

// historyPage is how many revisions a call gets that does not say how many,
// historyMost how many at most. Whoever asks gets historyRecent: to find out what has
// changed in a thousand takes long where the configuration is large.
const (
	historyPage   = 100
	historyMost   = 1000
	historyRecent = 20
)

func (s *service) ListHistory(ctx context.Context, r *adminpb.ListHistoryRequest) (*adminpb.ListHistoryResponse, error) {
	most := int(min(r.GetLimit(), historyMost))
	if most == 0 {
		most = historyPage
	}
	if callOf(ctx).who == (caller{}) {
		if most = min(most, historyRecent); r.GetBefore() != 0 {
			return nil, s.server.statusOf(fmt.Errorf("%w: here are the newest revisions alone: leave out before, or ask the admin API", ErrRequest))
		}
	}
	all, err := s.server.Plane.History(r.GetBefore(), most)
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	m := &adminpb.ListHistoryResponse{}
	for i := range all {
		one, err := s.revision(&all[i], nil)
		if err != nil {
			return nil, err
		}
		m.Revisions = append(m.Revisions, one)
	}
	return m, nil
}

func (s *service) Export(context.Context, *adminpb.ExportRequest) (*adminpb.ExportResponse, error) {
	// The number must not be newer than what it is of.
	number := s.server.Plane.Revision().Number
	text, err := s.server.Plane.Export()
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	return &adminpb.ExportResponse{Configuration: string(text), Revision: number}, nil
}

// flowsAtOnce is how many flows a message has at most.
const flowsAtOnce = 500

// A sender sends messages of a stream to somebody who may take them slowly.
type sender[M any] struct {
	call *call
	send func(*M) error
}

// begin lets a stream go on for longer than a request may take to come.
func begin[M any](ctx context.Context, send func(*M) error) (*sender[M], error) {
	s := &sender[M]{callOf(ctx), send}
	if err := s.call.control.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("begin stream: %w", err)
	}
	return s, s.wait()
}

// wait lets time go by without a message.
func (s *sender[M]) wait() error {
	if err := s.call.control.SetWriteDeadline(time.Time{}); err != nil {
		return fmt.Errorf("wait in stream: %w", err)
	}
	return nil
}

// put sends a message. Who does not take it in time loses the stream.
func (s *sender[M]) put(m *M) error {
	if err := s.call.control.SetWriteDeadline(time.Now().Add(sendTime)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := s.send(m); err != nil {
		return err
	}
	return s.wait()
}

func (s *service) StreamFlows(ctx context.Context, r *adminpb.StreamFlowsRequest, to flowStream) error {
	which, err := s.filter(ctx, r.GetFilter())
	if err != nil {
		return s.server.statusOf(err)
	}
	out, err := begin(ctx, to.Send)
	if err != nil {
		return s.server.statusOf(err)
	}
	m, sent, limit := &adminpb.StreamFlowsResponse{}, uint32(0), r.GetLimit()
	var sendErr error
	err = s.server.Datapath.Flows(ctx, which, func(f *adminpb.Flow) bool {
		m.Flows, sent = append(m.Flows, f), sent+1
		if len(m.Flows) == flowsAtOnce {
			sendErr = out.put(m)
			m = &adminpb.StreamFlowsResponse{}
		}
		return sendErr == nil && ctx.Err() == nil && sent != limit
	})
	switch {
	case sendErr != nil:
		return sendErr
	case ctx.Err() != nil:
		return s.server.statusOf(context.Cause(ctx))
	case err != nil:
		return s.server.statusOf(err)
	case len(m.Flows) > 0:
		return out.put(m)
	}
	return nil
}

// filter reads what a call says of flows. A service must be there.
func (s *service) filter(ctx context.Context, m *adminpb.FlowFilter) (*Filter, error) {
	f, err := newFilter(m)
	if err == nil && f.Service != "" && !slices.ContainsFunc(s.view(ctx).Services, func(x view.Service) bool { return x.Name == f.Service }) {
		err = notFound("service", f.Service)
	}
	return f, err
}

func (s *service) KillFlows(ctx context.Context, r *adminpb.KillFlowsRequest) (*adminpb.KillFlowsResponse, error) {
	which, err := s.filter(ctx, r.GetFilter())
	if err == nil && *which == (Filter{Kernel: true, Proxy: true}) && !r.GetAll() {
		err = fmt.Errorf("%w: filter is empty: say which flows, or set all", ErrRequest)
	}
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	n, err := s.server.Datapath.Kill(ctx, which)
	if err != nil {
		return nil, s.server.statusOf(err)
	}
	s.server.Log.Info("flows killed", append([]any{"caller", callOf(ctx).who.String(), "flows", n}, said(r.GetFilter())...)...)
	return &adminpb.KillFlowsResponse{Killed: n}, nil
}

// said returns what a filter says, for a log.
func said(m *adminpb.FlowFilter) (all []any) {
	for _, x := range [][2]string{
		{"service", m.GetService()}, {"client", m.GetClient()}, {"backend", m.GetBackend()}, {"protocol", m.GetProtocol()}, {"path", m.GetPath()},
	} {
		if x[1] != "" {
			all = append(all, x[0], x[1])
		}
	}
	return all
}

type (
	flowStream  = *connect.ServerStream[adminpb.StreamFlowsResponse]
	eventStream = *connect.ServerStream[adminpb.Event]
)
