package e2e

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/testenv/testca"
	"fairlead/userspace/view"
)

// grpcCases are those of grpc-go's client for interoperability that need no cloud, but
// for pick_first_unary, for which its server does not say who it is.
var grpcCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response",
	"custom_metadata", "status_code_and_message", "special_status_message",
	"unimplemented_method", "unimplemented_service",
	"orca_per_rpc", "orca_oob", "rpc_soak", "channel_soak",
}

// leastCalls is how many calls they are at least.
const leastCalls = 36

// TestInteroperabilityOfGRPC has grpc-go's client and server talk through the agent.
func TestInteroperabilityOfGRPC(t *testing.T) {
	s := stage.New(t, stage.Options{RigOptions: testenv.RigOptions{Backends: 1}, Programs: programs})
	client, server := interop(t)
	ca := testca.New(t)
	cert, key := ca.Issue(testca.Leaf{Names: []string{shopName}})
	s.Start(s.Backends[0], server, "-port", "8080")
	s.Configure(`
interfaces: %s
services:
  - {name: plain, listen: %s:80, forward: http, routes: [{match: /, pool: two}]}
  - {name: secure, listen: %[2]s:443, forward: http, routes: [{match: /, pool: two}], tls: {certificates: [{cert: %s, key: %s}]}}
  - {name: wrong, listen: %[2]s:81, forward: http, routes: [{match: /, pool: one}]}
pools:
  two: {backends: %[5]s, health: {type: tcp, interval: 100ms, rise: 1}, http2: true}
  one: {backends: %[5]s, health: {type: tcp, interval: 100ms, rise: 1}}
`, s.Links(), vip, cert, key, s.BackendList(8080))
	s.StartAgent()
	s.AwaitView("the server", func(v *view.View) bool { b := v.Services[0].Backends[0]; return b.Known && b.Up })
	pass := func(args ...string) (passed []string, r stage.Result) {
		t.Helper()
		r = s.Run(s.Clients[0], client, append(args, grpcCases...)...)
		return strings.Fields(r.Stdout), r
	}
	for _, way := range [][]string{{"-addr", vip + ":80"}, {"-addr", vip + ":443", "-ca", ca.File, "-name", shopName}} {
		before, err := s.View()
		if err != nil {
			t.Fatal(err)
		}
		if passed, r := pass(way...); r.Code != 0 || !slices.Equal(passed, grpcCases) {
			t.Errorf("%s: only %q have passed, status %d: %s", way[1], passed, r.Code, r.Stderr)
		}
		least := before.Proxy.HTTP.Requests + leastCalls
		s.AwaitView("the calls to be counted", func(v *view.View) bool { return v.Proxy.HTTP.Requests >= least && v.Proxy.HTTP.Running == 0 })
	}
	if passed, r := pass("-addr", vip+":81"); r.Code == 0 || len(passed) != 0 {
		t.Errorf("%q have passed over HTTP/1.1, status %d", passed, r.Code)
	}
}

// interop returns grpc-go's client and server.
func interop(t *testing.T) (client, server string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "../../scripts/interop-fetch.sh").Output()
	both := strings.Fields(string(out))
	if err != nil || len(both) != 2 {
		t.Fatalf("build grpc's client and server: %v, %q", err, out)
	}
	return both[0], both[1]
}
