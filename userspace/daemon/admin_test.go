package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fairlead/client"
	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/testenv/testca"
	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/datapath"
	"fairlead/userspace/view"
)

// calls returns a client of the agent of a run directory.
func calls(t *testing.T, runDir string) *client.Client {
	t.Helper()
	c, err := client.New(filepath.Join(runDir, adminSocket), client.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func weight(n uint32) *uint32 { return &n }

// TestTheAdminSocketOfAnAgent changes an agent by calls, and takes it back.
func TestTheAdminSocketOfAnAgent(t *testing.T) {
	one, _ := page(t, "one")
	two, _ := page(t, "two")
	sick, ill := page(t, "sick")
	ill.Store(true)
	a := controlAgent(t, strings.TrimSuffix(oneSite(one), "}\n")+", "+quickHealth+"}\n")
	c, ctx := calls(t, a.opts.RunDir), t.Context()
	stage.Await(t, "the first view", func() error {
		_, err := c.GetHealth(ctx, &adminpb.GetHealthRequest{Pool: "main"})
		return err
	})
	before := a.exported()
	_, err := c.AddBackend(ctx, &adminpb.AddBackendRequest{Pool: "main", Backend: sick})
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "status 503") {
		t.Errorf("a sick backend: %v", err)
	}
	if a.exported() != before {
		t.Error("what was refused is there")
	}
	made, err := c.AddBackend(ctx, &adminpb.AddBackendRequest{Pool: "main", Backend: two, Expect: 1})
	if err != nil || made.GetRevision() != 2 || !strings.HasPrefix(made.GetWho(), fmt.Sprintf("uid %d", os.Geteuid())) {
		t.Fatalf("%v, %v", made, err)
	}
	if err := c.AwaitHealthy(ctx, "main", two); err != nil {
		t.Error(err)
	}
	_, err = c.SetWeight(ctx, &adminpb.SetWeightRequest{Pool: "main", Backend: one, Weight: weight(7), Expect: 1})
	if connect.CodeOf(err) != connect.CodeAborted {
		t.Errorf("an old revision is expected: %v", err)
	}
	for wrong, want := range map[*uint32]string{weight(7000): `"7000" is not a number from 0 to 1000`, nil: "weight: is missing"} {
		_, err = c.SetWeight(ctx, &adminpb.SetWeightRequest{Pool: "main", Backend: one, Weight: wrong})
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	_, err = c.AddPool(ctx, &adminpb.AddPoolRequest{Pool: "main", Backends: []string{two}})
	if connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("a pool that is there: %v", err)
	}
	if _, err = c.AddPool(ctx, &adminpb.AddPoolRequest{Pool: "b", Backends: []string{two}, Pattern: "/b/"}); err != nil {
		t.Error(err)
	}
	for range 3 {
		if _, body := fetch(t, "/b/x"); body != "two /b/x" {
			t.Errorf("the pattern leads to %q", body)
		}
	}
	if _, err := c.Rollback(ctx, &adminpb.RollbackRequest{Revision: 1}); err != nil || a.exported() != before {
		t.Errorf("%v; exported\n%s\nwant\n%s", err, a.exported(), before)
	}
	history, err := c.ListHistory(ctx, &adminpb.ListHistoryRequest{})
	if err != nil || len(history.GetRevisions()) != 4 || history.GetRevisions()[0].GetRollback() != 1 || !strings.Contains(history.GetRevisions()[1].GetDifference(), "+") {
		t.Errorf("%v, %v", history, err)
	}
	if _, err := c.Explain(ctx, &adminpb.ExplainRequest{From: "198.51.100.7:1", To: "203.0.113.1:80"}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("explain without XDP: %v", err)
	}
}

// TestProxiedConnectionsAreToldAndKilled has one over HTTP.
func TestProxiedConnectionsAreToldAndKilled(t *testing.T) {
	one, _ := page(t, "one")
	a := controlAgent(t, oneSite(one))
	c := calls(t, a.opts.RunDir)
	conn, err := net.Dial("tcp", site)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := conn.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	own := conn.LocalAddr().String()
	testenv.AwaitNil(t, "a connection without a request, and so without a backend", func() error {
		if got := flowsOf(t, c, &adminpb.FlowFilter{Client: own}); len(got) != 1 || got[0] != "web tcp "+own+" "+site+"  proxy established" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	for _, none := range []*adminpb.FlowFilter{{Client: own, Path: "kernel"}, {Client: own, Protocol: "udp"}, {Client: own, Backend: one}} {
		if killed, err := c.KillFlows(t.Context(), &adminpb.KillFlowsRequest{Filter: none}); err != nil || killed.GetKilled() != 0 {
			t.Errorf("%v: killed %d, %v", none, killed.GetKilled(), err)
		}
	}
	if killed, err := c.KillFlows(t.Context(), &adminpb.KillFlowsRequest{Filter: &adminpb.FlowFilter{Client: own}}); err != nil || killed.GetKilled() != 1 {
		t.Errorf("killed %d, %v", killed.GetKilled(), err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client reads %v, want a reset", err)
	}
	stats, err := c.GetStats(t.Context(), &adminpb.GetStatsRequest{})
	if err != nil || stats.GetProxy() == nil || stats.GetPackets() != 0 {
		t.Errorf("%v, %v", stats, err)
	}
}

// flowsOf returns flows in lines.
func flowsOf(t *testing.T, c *client.Client, which *adminpb.FlowFilter) (lines []string) {
	t.Helper()
	stream, err := c.StreamFlows(t.Context(), &adminpb.StreamFlowsRequest{Filter: which})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for stream.Receive() {
		for _, f := range stream.Msg().GetFlows() {
			lines = append(lines, strings.Join([]string{f.GetService(), f.GetProtocol(), f.GetClient(), f.GetVirtual(), f.GetBackend(), f.GetPath(), f.GetState()}, " "))
		}
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	return lines
}

// TestKernelFlowsAreToldAndKilled has connections that XDP forwards.
func TestKernelFlowsAreToldAndKilled(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.start()
	first, at := b.opened(80)
	second, _ := b.opened(80)
	c := calls(t, b.opts.RunDir)
	own := first.LocalAddr().String()
	backend := fmt.Sprintf("%s:8080", b.BackendAddrs[at])
	got := flowsOf(t, c, &adminpb.FlowFilter{Client: own})
	if want := fmt.Sprintf("web tcp %s %s:80 %s kernel established", own, vip, backend); len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
	if all := flowsOf(t, c, nil); len(all) != 2 {
		t.Errorf("%q, want two", all)
	}
	e, err := c.Explain(t.Context(), &adminpb.ExplainRequest{From: own, To: fmt.Sprintf("%s:80", vip), Flags: []string{"ack"}})
	if err != nil || e.GetFlow().GetBackend() != backend || e.GetService().GetName() != "web" || e.GetPacket().GetLength() != 40 {
		t.Errorf("%v, %v", e, err)
	}
	for _, wrong := range []*adminpb.ExplainRequest{
		{From: own}, {From: own, To: "x"}, {From: own, To: own, Protocol: "icmp"}, {From: own, To: own, Flags: []string{"urg"}}, {From: own, To: own, Interface: "none"},
	} {
		if _, err := c.Explain(t.Context(), wrong); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: %v", wrong, err)
		}
	}
	stats, err := c.GetStats(t.Context(), &adminpb.GetStatsRequest{})
	if err != nil || stats.GetForwarded().GetFlows() < 2 || stats.GetKinds()["forward"] == 0 || stats.GetServices()[0].GetConnections() < 2 || len(stats.GetServices()[0].GetBackends()) != 2 {
		t.Errorf("%v, %v", stats, err)
	}
	killed, err := c.KillFlows(t.Context(), &adminpb.KillFlowsRequest{Filter: &adminpb.FlowFilter{Client: own}})
	if err != nil || killed.GetKilled() != 1 {
		t.Errorf("killed %d, %v", killed.GetKilled(), err)
	}
	wantDead(t, first)
	if _, err := second.Write([]byte("x")); err != nil {
		t.Errorf("the other connection: %v", err)
	}
	if all := flowsOf(t, c, &adminpb.FlowFilter{Client: second.LocalAddr().String()}); len(all) != 1 {
		t.Errorf("%q, want the other connection", all)
	}
	b.seen("one connection counts", func(v view.View) bool {
		return v.Services[0].Backends[0].Flows+v.Services[0].Backends[1].Flows == 1
	})
	b.stop()
	if _, err := os.Lstat(filepath.Join(b.opts.RunDir, adminSocket)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// wantDead has a connection be reset at its next packet.
func wantDead(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // if nothing comes
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 100)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection reads %v, want a reset", err)
	}
}

// TestExplanationsFitTheirMessages finds what an explanation has and its message
// lacks, or calls something else.
func TestExplanationsFitTheirMessages(t *testing.T) {
	zone, slot, rule := "east", 3, netip.MustParsePrefix("10.0.0.0/8")
	load := datapath.Load{Connections: 5, Weight: 6}
	e := &datapath.Explanation{
		Packet:  datapath.PacketView{Interface: "eth0", Source: netip.MustParseAddrPort("10.0.0.1:1"), Destination: netip.MustParseAddrPort("10.0.0.2:2"), TTL: 9, SourceMAC: "a", DestinationMAC: "b", Protocol: "tcp", Flags: []string{"syn"}, Length: 40},
		Service: &datapath.ExplainedService{Name: "web", Listen: "x", Protocol: "tcp", Rung: "xdp", FullNAT: true, Reason: "r", Serving: "up", Zone: "z"},
		Nearby:  []datapath.ExplainedService{{Name: "near"}},
		Client:  &datapath.ExplainedClient{Rule: &rule, Allowed: true, Limit: &datapath.LimitView{Rate: 1, Burst: 2, Prefix: 3}},
		Flow:    &datapath.ExplainedFlow{State: "new", Direction: "forward", Backend: "b", Idle: 1.5, Limit: 2.5, Check: "fit", Anew: true}, ClientZone: &zone,
		Choice: &datapath.Choice{
			Balance: "maglev", Promise: true, Slots: 7, MaxLoad: 125, AllUp: true,
			Tries: []datapath.Try{{Slot: &slot, Beside: &slot, Hash: "h", Turn: 1 << 40, Backend: "b", Verdict: "v", Tied: true, Load: load}},
			Rest:  []datapath.Other{{Backend: "o", Why: "down", Zone: "z", Load: load}},
		},
		Verdict: loader.LBVerdictFORWARD_TX, VerdictName: "forward_tx", Out: &datapath.PacketView{Interface: "eth1"},
	}
	m := &adminpb.Explanation{}
	if err := adminpb.Fill(m, e); err != nil {
		t.Fatal(err)
	}
	want := `packet:{interface:"eth0" source:"10.0.0.1:1" destination:"10.0.0.2:2" ttl:9 source_mac:"a" destination_mac:"b" protocol:"tcp" flags:"syn" length:40} ` +
		`service:{name:"web" listen:"x" protocol:"tcp" rung:"xdp" full_nat:true reason:"r" serving:"up" zone:"z"} nearby:{name:"near"} ` +
		`client:{rule:"10.0.0.0/8" allowed:true limit:{rate:1 burst:2 prefix:3}} ` +
		`flow:{state:"new" direction:"forward" backend:"b" idle_seconds:1.5 limit_seconds:2.5 check:"fit" anew:true} client_zone:"east" ` +
		`choice:{balance:"maglev" promise:true slots:7 max_load:125 all_up:true tries:{slot:3 beside:3 hash:"h" turn:1099511627776 backend:"b" verdict:"v" tied:true connections:5 weight:6} ` +
		`not_chosen:{backend:"o" why:"down" zone:"z" connections:5 weight:6}} verdict:"forward_tx" out:{interface:"eth1"}`
	if got := strings.Join(strings.Fields(m.String()), " "); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestWhoMayUseTheSocketFollowsTheConfiguration has another user call.
func TestWhoMayUseTheSocketFollowsTheConfiguration(t *testing.T) {
	testenv.RequireRoot(t)
	dir, err := os.MkdirTemp("", "desk") // others may enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	one, _ := page(t, "one")
	a := runAgentWith(t, oneSite(one), func(o *Options) { o.RunDir = filepath.Join(dir, "run") })
	const user = 4321
	call := func(method string) string {
		c := exec.CommandContext(context.WithoutCancel(t.Context()), "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", filepath.Join(dir, "run", adminSocket),
			"-H", "Content-Type: application/json", "-d", "{}", "http://fairlead/fairlead.admin.v1.Admin/"+method)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		out, _ := c.Output() // which fails where the socket says no
		return string(out)
	}
	for _, row := range []struct{ admin, read, write string }{
		{"", "000", "000"},
		{"admin: {readers: {users: [4321]}}\n", "200", "403"},
		{"admin: {groups: [4321]}\n", "200", "400"},
		{"admin: {users: [4322]}\n", "000", "000"},
	} {
		a.reload(row.admin + oneSite(one))
		stage.Await(t, "the answers of "+row.admin, func() error {
			if read, write := call("GetStatus"), call("Change"); read != row.read || write != row.write {
				return fmt.Errorf("read %s, write %s; want %s and %s", read, write, row.read, row.write)
			}
			return nil
		})
	}
}

// TestTheAdminAPIOverTLS has a reload trust another authority.
func TestTheAdminAPIOverTLS(t *testing.T) {
	one, _ := page(t, "one")
	addr := testenv.FreeAddress(t)
	ca, other := testca.New(t), testca.New(t)
	own, ownKey := ca.Issue(testca.Leaf{Names: []string{"127.0.0.1", "localhost"}})
	admin := func(authority string, who string) string {
		return fmt.Sprintf("admin: {listen: %q, cert: %s, key: %s, client-ca: %s, %s}\n", addr, own, ownKey, authority, who)
	}
	a := runAgent(t, admin(ca.File, "certificates: [ops.example]")+oneSite(one))
	may := func(by *testca.CA, name string) string {
		cert, key := by.Issue(testca.Leaf{Names: []string{name}})
		c, err := client.New(strings.Replace(addr, "127.0.0.1", "localhost", 1), client.TLS{Cert: cert, Key: key, CA: ca.File})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.GetStatus(t.Context(), &adminpb.GetStatusRequest{}); err != nil {
			return connect.CodeOf(err).String()
		}
		if _, err := c.Change(t.Context(), &adminpb.ChangeRequest{}); connect.CodeOf(err) != connect.CodeInvalidArgument {
			return "read"
		}
		return "write"
	}
	for _, row := range []struct {
		by   *testca.CA
		name string
		want string
	}{{ca, "ops.example", "write"}, {ca, "x.example", "permission_denied"}} {
		if got := may(row.by, row.name); got != row.want {
			t.Errorf("%s may %s, want %s", row.name, got, row.want)
		}
	}
	if got := may(other, "ops.example"); got == "write" || got == "read" {
		t.Errorf("another authority's certificate may %s", got)
	}
	a.reload(admin(other.File, "readers: {certificates: [ops.example]}") + oneSite(one))
	stage.Await(t, "the other authority is trusted", func() error {
		if got := may(other, "ops.example"); got != "read" {
			return errors.New(got)
		}
		return nil
	})
	if got := may(ca, "ops.example"); got == "write" || got == "read" {
		t.Errorf("the former authority's certificate may %s", got)
	}
}
