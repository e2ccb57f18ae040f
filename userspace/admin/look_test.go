package admin

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"fairlead/testenv/stage"
	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/admin/adminpb/adminpbconnect"
	"fairlead/userspace/peercred"
	"fairlead/userspace/view"
)

func TestHealthOfPools(t *testing.T) {
	w := serve(t)
	c := w.client(t)
	all, err := c.GetHealth(t.Context(), &adminpb.GetHealthRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range all.GetPools() {
		line := p.GetName() + " of " + strings.Join(p.GetServices(), " ") + ": " + p.GetStatus()
		for _, b := range p.GetBackends() {
			line += ", " + b.GetAddress() + " " + b.GetStatus()
		}
		got = append(got, line)
	}
	want := []string{
		"web of web: degraded, 10.0.0.1:80 healthy, 10.0.0.2:80 draining, 10.0.0.3:80 unhealthy",
		"api of site shop: degraded, 10.0.2.1:80 healthy, 10.0.2.2:80 unhealthy",
		"dns of dns: unknown, 10.0.3.1:53 unknown",
		"gone of gone: none, 10.0.4.1:53 unhealthy",
		"spare of : unused, 10.0.5.1:80 healthy",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	one, err := c.GetHealth(t.Context(), &adminpb.GetHealthRequest{Pool: "dns"})
	if err != nil || len(one.GetPools()) != 1 || one.GetPools()[0].GetName() != "dns" {
		t.Errorf("%v, %v; want dns alone", one, err)
	}
	if _, err := c.GetHealth(t.Context(), &adminpb.GetHealthRequest{Pool: "none"}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("%v, want not found", err)
	}
}

// TestLatencyOfBackends has what the view tells of five minutes, and of the agent
// before.
func TestLatencyOfBackends(t *testing.T) {
	w := serve(t)
	c := w.client(t)
	up, now := true, view.Latency{Count: 2000, Median: 0.25, P95: 0.5, P99: 1.5}
	w.plane.set(func() {
		b := w.plane.view.Services[0].Backends
		b[0].Latency = &now
		b[2].Last = &view.Last{At: time.Unix(1e9, 0), Up: &up, Weight: 3, Share: 50, Latency: &now}
	})
	all, err := c.GetHealth(t.Context(), &adminpb.GetHealthRequest{Pool: "web"})
	if err != nil {
		t.Fatal(err)
	}
	services, err := c.ListServices(t.Context(), &adminpb.ListServicesRequest{Service: "web"})
	if err != nil {
		t.Fatal(err)
	}
	want := &adminpb.Latency{Count: 2000, MedianSeconds: 0.25, P95Seconds: 0.5, P99Seconds: 1.5}
	last := &adminpb.Last{At: timestamppb.New(time.Unix(1e9, 0)), Up: &up, Weight: 3, SharePercent: 50, Latency: want}
	for _, b := range [][]*adminpb.Backend{all.GetPools()[0].GetBackends(), services.GetServices()[0].GetBackends()} {
		if diff := cmp.Diff(want, b[0].GetLatency(), protocmp.Transform()); diff != "" || b[1].Latency != nil || b[0].LastKnown != nil {
			t.Errorf("latency of %v; -want +got\n%s", b, diff)
		}
		if diff := cmp.Diff(last, b[2].GetLastKnown(), protocmp.Transform()); diff != "" {
			t.Errorf("last known, -want +got\n%s", diff)
		}
	}
}

func TestServicesAndStatusAreTheViews(t *testing.T) {
	w := serve(t)
	c := w.client(t)
	services, err := c.ListServices(t.Context(), &adminpb.ListServicesRequest{})
	if err != nil || len(services.GetServices()) != 5 {
		t.Fatalf("%v, %v", services, err)
	}
	s := services.GetServices()[0]
	if s.GetName() != "web" || s.GetRung() != "xdp-native" || s.GetListen() != "203.0.113.10:80" || s.GetBackends()[2].GetLastError() != "connection refused" ||
		s.GetBackends()[1].GetStatus() != "draining" {
		t.Errorf("%v", s)
	}
	one, err := c.ListServices(t.Context(), &adminpb.ListServicesRequest{Service: "shop"})
	if err != nil || len(one.GetServices()) != 1 || one.GetServices()[0].GetBackends()[1].GetEjected().GetSeconds() != 2e9 {
		t.Errorf("%v, %v", one, err)
	}
	if _, err := c.ListServices(t.Context(), &adminpb.ListServicesRequest{Service: "none"}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("%v, want not found", err)
	}
	status, err := c.GetStatus(t.Context(), &adminpb.GetStatusRequest{})
	if err != nil || status.GetRevision() != 7 || status.GetPid() != 12 || status.GetXdp().GetMode() != "auto" || status.GetStarted().GetSeconds() != 1e9 {
		t.Errorf("%v, %v", status, err)
	}
	export, err := c.Export(t.Context(), &adminpb.ExportRequest{})
	if err != nil || export.GetRevision() != 7 || export.GetConfiguration() != "services: []\n" {
		t.Errorf("%v, %v", export, err)
	}
}

// TestMessagesHaveTheNamesOfViews finds a field that would stay empty because the
// view calls it something else.
func TestMessagesHaveTheNamesOfViews(t *testing.T) {
	v := &view.View{
		Services: []view.Service{{Backends: []view.Backend{{}}, Certificates: []view.Certificate{{}}}},
		XDP:      view.XDP{Interfaces: []view.Interface{{}}},
	}
	own := map[string]bool{"Backend.status": true, "Status.revision": true} // not the view's
	for _, x := range []struct {
		message protoreflect.ProtoMessage
		of      any
	}{
		{&adminpb.Status{}, v}, {&adminpb.XDP{}, v.XDP}, {&adminpb.Interface{}, v.XDP.Interfaces[0]}, {&adminpb.Service{}, v.Services[0]},
		{&adminpb.Backend{}, v.Services[0].Backends[0]}, {&adminpb.Certificate{}, v.Services[0].Certificates[0]}, {&adminpb.Suspicion{}, view.Suspicion{}},
		{&adminpb.Proxied{}, view.Proxied{}}, {&adminpb.Latency{}, view.Latency{}}, {&adminpb.Last{}, view.Last{}},
		{&adminpb.Proxy{}, v.Proxy}, {&adminpb.TCP{}, v.Proxy.TCP}, {&adminpb.UDP{}, v.Proxy.UDP}, {&adminpb.HTTP{}, v.Proxy.HTTP},
	} {
		names := jsonNames(x.of)
		d := x.message.ProtoReflect().Descriptor()
		for i := range d.Fields().Len() {
			name := string(d.Fields().Get(i).Name())
			if !names[name] && !own[string(d.Name())+"."+name] {
				t.Errorf("%s.%s: the view has no such field", d.Name(), name)
			}
		}
	}
}

func TestHistoryHasPages(t *testing.T) {
	w := serve(t)
	c := w.client(t)
	w.plane.set(func() { w.plane.history = revisions(1, 300) })
	for _, row := range []struct {
		before      uint64
		limit, want uint32
		first       uint64
	}{
		{0, 0, 100, 300}, {0, 2, 2, 300}, {250, 3, 3, 249}, {3, 0, 2, 2}, {0, 5000, 300, 300},
	} {
		got, err := c.ListHistory(t.Context(), &adminpb.ListHistoryRequest{Before: row.before, Limit: row.limit})
		if err != nil || len(got.GetRevisions()) != int(row.want) || got.GetRevisions()[0].GetRevision() != row.first {
			t.Errorf("before %d, limit %d: %d revisions, %v", row.before, row.limit, len(got.GetRevisions()), err)
		}
	}
}

// TestWhoKilledWhichFlowsIsLogged has the filter in the log as a user wrote it.
func TestWhoKilledWhichFlowsIsLogged(t *testing.T) {
	log := &stage.Output{}
	s := &Server{Plane: newPlane(), Datapath: &datapath{}, Log: slog.New(slog.NewTextHandler(log, nil))}
	s.Use(matrixAccess())
	c := adminpbconnect.NewAdminClient(as(t, s, caller{peer: &peercred.Peer{}}), "http://fairlead")
	if _, err := c.KillFlows(t.Context(), &adminpb.KillFlowsRequest{Filter: &adminpb.FlowFilter{Client: "192.0.2.0/24", Protocol: "tcp"}}); err != nil {
		t.Fatal(err)
	}
	if want := `flows=0 client=192.0.2.0/24 protocol=tcp` + "\n"; !strings.Contains(log.String(), want) {
		t.Errorf("log %q has no %q", log, want)
	}
}

func TestFlowsOfAServiceThatIsNotThere(t *testing.T) {
	c := serve(t).client(t)
	which := &adminpb.FlowFilter{Service: "nope"}
	if _, err := c.KillFlows(t.Context(), &adminpb.KillFlowsRequest{Filter: which}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("kill: %v, want not found", err)
	}
	flows, err := c.StreamFlows(t.Context(), &adminpb.StreamFlowsRequest{Filter: which})
	if err != nil {
		t.Fatal(err)
	}
	defer flows.Close()
	if flows.Receive() || connect.CodeOf(flows.Err()) != connect.CodeNotFound {
		t.Errorf("list: %v, want not found", flows.Err())
	}
}
