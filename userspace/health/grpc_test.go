package health

import (
	"context"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"fairlead/userspace/model"
)

// serveGRPC serves, with the health service if that is not nil.
func serveGRPC(t *testing.T, health grpc_health_v1.HealthServer) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	if health != nil {
		grpc_health_v1.RegisterHealthServer(server, health)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() { server.Stop(); <-ended })
	return l.Addr().String()
}

// A slowHealth answers when the client has gone.
type slowHealth struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (slowHealth) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestProbeGRPC(t *testing.T) {
	health := grpchealth.NewServer()
	health.SetServingStatus("good", grpc_health_v1.HealthCheckResponse_SERVING)
	health.SetServingStatus("bad", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	server, without, slow := serveGRPC(t, health), serveGRPC(t, nil), serveGRPC(t, slowHealth{})
	garbage := serveTCP(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nhello") })
	silent := serveTCP(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	for _, tt := range []struct {
		name, address string
		check         model.Check
		want          string
	}{
		{"the server as a whole", server, model.Check{Timeout: long}, ""},
		{"a service that serves", server, model.Check{Service: "good", Host: "grpc.example.com", Timeout: long}, ""},
		{"a service that does not", server, model.Check{Service: "bad", Timeout: long}, `service "bad" is NOT_SERVING`},
		{"an unknown service", server, model.Check{Service: "what", Timeout: long}, "NotFound"},
		{"a server without health", without, model.Check{Timeout: long}, "Unimplemented"},
		{"a slow answer", slow, model.Check{Timeout: short}, "ask for health"},
		{"a server that does not speak it", garbage, model.Check{Timeout: long}, "ask for health"},
		{"a server that says nothing", silent, model.Check{Timeout: short}, "ask for health"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.check.Type = model.CheckGRPC
			expect(t, run(t, tt.address, tt.check), tt.want)
		})
	}
}
