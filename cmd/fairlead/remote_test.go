package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/admin/adminpb/adminpbconnect"
)

var update = flag.Bool("update", false, "write the files in testdata")

// A balancer is an agent that notes what it is asked and answers what is in it.
type balancer struct {
	adminpbconnect.UnimplementedAdminHandler
	mu     sync.Mutex
	asked  []string
	err    error // of calls that change something
	export string

	watched int // how often somebody has begun to
	counted int // how often stats were told
}

const exported = `services:
  - name: site
    routes:
      - {match: GET  /images/, pool: images}
      - {match: /both/, split: {images: 1, api: 1}}
      - {match: /, pool: main}
  - name: shop
    routes:
      - {match: /, pool: goods}
`

// lb starts one and returns its socket.
func lb(t *testing.T) (*balancer, string) {
	t.Helper()
	b := &balancer{export: exported}
	dir, err := os.MkdirTemp("", "lb") // a short name, as sockets want
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	_, h := adminpbconnect.NewAdminHandler(b)
	s := &http.Server{Handler: h, Protocols: &protocols}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-done
		os.RemoveAll(dir)
	})
	return b, socket
}

// made notes a change.
func (b *balancer) made(name string, m proto.Message) (*adminpb.Revision, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	line, err := jsonLine(m)
	if err != nil {
		return nil, err
	}
	b.asked = append(b.asked, name+" "+string(line))
	if b.err != nil {
		return nil, b.err
	}
	return revision8(), nil
}

// said returns what was asked since the last call.
func (b *balancer) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := strings.Join(b.asked, "\n")
	b.asked = nil
	return all
}

func at(clock int) *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2030, 1, 2, 3, 4, clock, 0, time.UTC))
}

func revision8() *adminpb.Revision {
	w := uint32(5)
	return &adminpb.Revision{Revision: 8, Time: at(8), Who: "uid 0 (root)", Edits: []*adminpb.Edit{{Op: "set-weight", Pool: "web", Backend: "10.0.0.1:80", Weight: &w}}}
}

func (b *balancer) AddPool(_ context.Context, r *adminpb.AddPoolRequest) (*adminpb.Revision, error) {
	return b.made("AddPool", r)
}

func (b *balancer) RemovePool(_ context.Context, r *adminpb.RemovePoolRequest) (*adminpb.Revision, error) {
	return b.made("RemovePool", r)
}

func (b *balancer) AddBackend(_ context.Context, r *adminpb.AddBackendRequest) (*adminpb.Revision, error) {
	return b.made("AddBackend", r)
}

func (b *balancer) RemoveBackend(_ context.Context, r *adminpb.RemoveBackendRequest) (*adminpb.Revision, error) {
	return b.made("RemoveBackend", r)
}

func (b *balancer) SetWeight(_ context.Context, r *adminpb.SetWeightRequest) (*adminpb.Revision, error) {
	return b.made("SetWeight", r)
}

func (b *balancer) DrainBackend(_ context.Context, r *adminpb.DrainBackendRequest) (*adminpb.Revision, error) {
	return b.made("DrainBackend", r)
}

func (b *balancer) UndrainBackend(_ context.Context, r *adminpb.UndrainBackendRequest) (*adminpb.Revision, error) {
	return b.made("UndrainBackend", r)
}

func (b *balancer) Apply(_ context.Context, r *adminpb.ApplyRequest) (*adminpb.Revision, error) {
	return b.made("Apply", r)
}

func (b *balancer) Rollback(_ context.Context, r *adminpb.RollbackRequest) (*adminpb.Revision, error) {
	return b.made("Rollback", r)
}

func (b *balancer) KillFlows(_ context.Context, r *adminpb.KillFlowsRequest) (*adminpb.KillFlowsResponse, error) {
	_, err := b.made("KillFlows", r)
	return &adminpb.KillFlowsResponse{Killed: 3}, err
}

func (b *balancer) Plan(_ context.Context, r *adminpb.ChangeRequest) (*adminpb.PlanResponse, error) {
	_, err := b.made("Plan", r)
	if strings.Contains(r.GetEdits()[0].GetSpec(), "same") {
		return &adminpb.PlanResponse{}, err
	}
	return &adminpb.PlanResponse{Difference: "-a\n+b\n"}, err
}

func (b *balancer) Export(context.Context, *adminpb.ExportRequest) (*adminpb.ExportResponse, error) {
	return &adminpb.ExportResponse{Configuration: b.export, Revision: 8}, nil
}

func pools() []*adminpb.Pool {
	return []*adminpb.Pool{
		{Name: "web", Services: []string{"web", "shop"}, Status: "degraded", Backends: []*adminpb.Backend{
			{Address: "10.0.0.1:80", Weight: 5, Status: "healthy", Flows: 12, Up: true, Known: true, Since: at(1), LastProbe: at(7)},
			{Address: "10.0.0.2:80", Weight: 1, Status: "unhealthy", Known: true, LastError: "dial:\nconnection refused", Since: timestamppb.New(at(0).AsTime().AddDate(0, 0, -2)), LastProbe: at(6)},
			{Address: "10.0.0.3:80", Name: "db.example", Status: "draining", Flows: 1, Up: true},
		}},
		{Name: "empty", Status: "none"},
	}
}

func (b *balancer) ListPools(context.Context, *adminpb.ListPoolsRequest) (*adminpb.ListPoolsResponse, error) {
	return &adminpb.ListPoolsResponse{Pools: pools()}, nil
}

func (b *balancer) GetHealth(_ context.Context, r *adminpb.GetHealthRequest) (*adminpb.GetHealthResponse, error) {
	_, _ = b.made("GetHealth", r)
	return &adminpb.GetHealthResponse{Pools: pools()}, nil
}

func (b *balancer) ListServices(_ context.Context, r *adminpb.ListServicesRequest) (*adminpb.ListServicesResponse, error) {
	_, _ = b.made("ListServices", r)
	return &adminpb.ListServicesResponse{Services: []*adminpb.Service{
		{Name: "web", Listen: "203.0.113.10:80", Protocol: "tcp", Forward: "dnat", Rung: "xdp-native", Backends: pools()[0].GetBackends()},
		{Name: "dns", Listen: "203.0.113.10:53", Protocol: "udp", Forward: "dnat", Rung: "proxy", Reason: "no route"},
	}}, nil
}

func (b *balancer) StreamFlows(_ context.Context, r *adminpb.StreamFlowsRequest, to *connect.ServerStream[adminpb.StreamFlowsResponse]) error {
	if _, err := b.made("StreamFlows", r); err != nil {
		return err
	}
	return errors.Join(
		to.Send(&adminpb.StreamFlowsResponse{Flows: []*adminpb.Flow{{
			Service: "web", Protocol: "tcp", Path: "kernel", Client: "198.51.100.7:40000", Virtual: "203.0.113.10:80", Backend: "10.0.0.1:80", State: "established",
			IdleSeconds: 1.25, LeftSeconds: 7198.75,
		}}}),
		to.Send(&adminpb.StreamFlowsResponse{Flows: []*adminpb.Flow{{
			Service: "site", Protocol: "tcp", Path: "proxy", Client: "198.51.100.8:40000", Virtual: "203.0.113.11:80", State: "established",
		}}}))
}

func (b *balancer) ListHistory(_ context.Context, r *adminpb.ListHistoryRequest) (*adminpb.ListHistoryResponse, error) {
	_, _ = b.made("ListHistory", r)
	first := revision8()
	first.Difference = "-  weight: 1\n+  weight: 5\n"
	return &adminpb.ListHistoryResponse{Revisions: []*adminpb.Revision{
		first, {Revision: 7, Time: at(7), Who: "uid 1000 (alice)", Rollback: 3}, {Revision: 6, Time: at(6), Who: "file"},
	}}, nil
}

// Watch tells what happens until the agent ends; the next one is killed, and that after
// it breaks.
func (b *balancer) Watch(_ context.Context, _ *adminpb.WatchRequest, to *connect.ServerStream[adminpb.Event]) error {
	b.mu.Lock()
	b.watched++
	n := b.watched
	b.mu.Unlock()
	switch n {
	case 2: // nobody is there yet
		return connect.NewError(connect.CodeUnavailable, errors.New("the agent starts"))
	case 3: // it is killed
		_ = to.Send(&adminpb.Event{Time: at(6), Kind: "begin", Revision: 8})
		panic(http.ErrAbortHandler)
	case 4:
		return errors.Join(to.Send(&adminpb.Event{Time: at(6), Kind: "begin", Revision: 9}), connect.NewError(connect.CodeInternal, errors.New("disk is full")))
	}
	for _, e := range []*adminpb.Event{
		{Time: at(1), Kind: "begin", Revision: 7},
		{Time: at(2), Kind: "revision", Revision: 8, Change: revision8()},
		{Time: at(3), Kind: "backend", Revision: 8, Service: "web", Pool: "web", Backend: "10.0.0.2:80", From: "healthy", To: "unhealthy", Reason: "connection refused"},
		{Time: at(4), Kind: "service", Revision: 8, Service: "dns", To: "proxy"},
		{Time: at(5), Kind: "config", Revision: 8, Reason: "line 3"},
	} {
		if err := to.Send(e); err != nil {
			return err
		}
	}
	return connect.NewError(connect.CodeUnavailable, errors.New("the agent ends"))
}

// golden compares output with a file of testdata, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
