package httpproxy

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"fairlead/userspace/model"
)

// dialGRPC opens a client of a gRPC server behind a front whose route has rules.
func dialGRPC(t *testing.T, rules model.Rules) (*front, *grpc.ClientConn, *health.Server) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, states := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(server, states)
	reflection.Register(server)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	p := poolOf(l.Addr().String())
	p.HTTP2 = true
	h := everything(usual)
	h.Routes[0].Rules = rules
	f := serve(t, h, map[string]*model.Pool{"main": p})
	conn, err := grpc.NewClient("passthrough:///"+f.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return f, conn, states
}

func TestCallsOfGRPC(t *testing.T) { checkCalls(t, model.Rules{}) }

func TestRulesLeaveCallsOfGRPCAlone(t *testing.T) { checkCalls(t, everyRule()) }

func checkCalls(t *testing.T, rules model.Rules) {
	t.Helper()
	f, conn, states := dialGRPC(t, rules)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := healthpb.NewHealthClient(conn)
	states.SetServingStatus("a", healthpb.HealthCheckResponse_SERVING)
	if got, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: "a"}); err != nil || got.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("answer %v, error %v", got, err)
	}
	_, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: "unknown"})
	if status.Code(err) != codes.NotFound { // it stands in trailers alone
		t.Errorf("error %v", err)
	}
	brief, leave := context.WithCancel(ctx)
	watch, err := client.Watch(brief, &healthpb.HealthCheckRequest{Service: "a"})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	leave()
	if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("error %v", err)
	}
	eventually(t, "the stream ends at the proxy", func() bool { return f.Stats().Running == 0 })
}

func TestStreamsOfGRPC(t *testing.T) {
	_, conn, states := dialGRPC(t, everyRule())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watch, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{Service: "a"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []healthpb.HealthCheckResponse_ServingStatus{3, 1, 2, 1} { // unknown first
		if want != 3 {
			states.SetServingStatus("a", want)
		}
		if got, err := watch.Recv(); err != nil || got.Status != want {
			t.Fatalf("answer %v, error %v, want %v", got, err, want)
		}
	}
	both, err := reflectpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // each question waits for the answer to the one before
		ask := &reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_ListServices{}}
		if err := both.Send(ask); err != nil {
			t.Fatal(err)
		}
		if got, err := both.Recv(); err != nil || len(got.GetListServicesResponse().GetService()) == 0 {
			t.Fatalf("answer %v, error %v", got, err)
		}
	}
	if err := both.CloseSend(); err != nil {
		t.Fatal(err)
	}
}
