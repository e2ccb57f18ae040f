// Interop is grpc-go's client for interoperability, without xDS and the clouds'
// credentials, which its own command brings along: it runs the cases that are named,
// prints each that has passed, and ends at the first that has not.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// timeout is for one case, on a loaded machine.
const timeout = time.Minute

// cases are those of the standard that do with a client alone.
var cases = map[string]func(context.Context, pb.TestServiceClient, ...grpc.CallOption){
	"empty_unary":                 interop.DoEmptyUnaryCall,
	"large_unary":                 interop.DoLargeUnaryCall,
	"client_streaming":            interop.DoClientStreaming,
	"server_streaming":            interop.DoServerStreaming,
	"ping_pong":                   interop.DoPingPong,
	"empty_stream":                interop.DoEmptyStream,
	"timeout_on_sleeping_server":  interop.DoTimeoutOnSleepingServer,
	"cancel_after_begin":          interop.DoCancelAfterBegin,
	"cancel_after_first_response": interop.DoCancelAfterFirstResponse,
	"status_code_and_message":     interop.DoStatusCodeAndMessage,
	"special_status_message":      interop.DoSpecialStatusMessage,
	"custom_metadata":             interop.DoCustomMetadata,
}

// A client is where the cases go.
type client struct {
	addr string
	dial []grpc.DialOption
	conn *grpc.ClientConn
}

func main() {
	addr := flag.String("addr", "", "the server, address:port")
	ca := flag.String("ca", "", "`FILE` with the server's authority; without it there is no TLS")
	name := flag.String("name", "", "the server's name, with TLS")
	flag.Parse()
	if err := run(*addr, *ca, *name, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func run(addr, ca, name string, cases []string) error {
	secure := insecure.NewCredentials()
	if ca != "" {
		var err error
		if secure, err = credentials.NewClientTLSFromFile(ca, name); err != nil {
			return err
		}
	}
	// Load reports reach the cases about them through this policy; for one server it is as any other.
	policy := grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`)
	c := &client{addr: "passthrough:///" + addr, dial: []grpc.DialOption{grpc.WithTransportCredentials(secure), policy}}
	var err error
	if c.conn, err = grpc.NewClient(c.addr, c.dial...); err != nil {
		return err
	}
	defer c.conn.Close()
	for _, name := range cases {
		if err := c.pass(name); err != nil {
			return err
		}
		fmt.Println(name)
	}
	return nil
}

// pass runs a case, which ends the program if it fails.
func (c *client) pass(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	test := pb.NewTestServiceClient(c.conn)
	if do := cases[name]; do != nil {
		do(ctx, test)
		return nil
	}
	switch name {
	case "unimplemented_method":
		interop.DoUnimplementedMethod(ctx, c.conn)
	case "unimplemented_service":
		interop.DoUnimplementedService(ctx, pb.NewUnimplementedServiceClient(c.conn))
	case "orca_per_rpc":
		interop.DoORCAPerRPCTest(ctx, test)
	case "orca_oob":
		interop.DoORCAOOBTest(ctx, test)
	case "rpc_soak":
		c.soak(ctx, func() (*grpc.ClientConn, func()) { return c.conn, func() {} })
	case "channel_soak":
		c.soak(ctx, c.another)
	default:
		return fmt.Errorf("there is no case %q", name)
	}
	return nil
}

// soak makes large calls through the connections that open returns, with the numbers
// of grpc-go's own command but for how long one may take.
func (c *client) soak(ctx context.Context, open func() (*grpc.ClientConn, func())) {
	interop.DoSoakTest(ctx, interop.SoakTestConfig{
		RequestSize: 271828, ResponseSize: 314159, Iterations: 10, NumWorkers: 1,
		PerIterationMaxAcceptableLatency: timeout, OverallTimeout: timeout,
		ServerAddr: c.addr, ChannelForTest: open,
	})
}

// another opens one more connection.
func (c *client) another() (*grpc.ClientConn, func()) {
	conn, err := grpc.NewClient(c.addr, c.dial...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
	return conn, func() { conn.Close() }
}
