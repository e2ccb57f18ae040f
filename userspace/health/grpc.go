package health

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// probeGRPC asks by the gRPC health checking protocol, in plain text. Only
// SERVING is healthy.
func probeGRPC(ctx context.Context, t Target) error {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dial(ctx, "tcp", t)
		}),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxBody)),
		grpc.WithUserAgent("fairlead-health"),
	}
	if t.Check.Host != "" {
		options = append(options, grpc.WithAuthority(t.Check.Host))
	}
	conn, err := grpc.NewClient("passthrough:///"+t.Address.String(), options...)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer conn.Close()

	request := &grpc_health_v1.HealthCheckRequest{Service: t.Check.Service}
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, request)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	if answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service %q is %v", t.Check.Service, answer.Status)
	}
	return nil
}
