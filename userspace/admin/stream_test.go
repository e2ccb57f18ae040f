package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/control"
	"fairlead/userspace/view"
)

// revisions returns some, the newest first.
func revisions(first, last uint64) (all []control.Revision) {
	for n := last; n >= first; n-- {
		all = append(all, control.Revision{
			Number: n, Time: time.Unix(int64(n), 0), Who: "uid 7", Difference: "+x",
			Edits: []control.Edit{{Op: control.OpDrain, Pool: "web", Backend: fmt.Sprint(n)}},
		})
	}
	return all
}

// eventText is an event in a line.
func eventText(e *adminpb.Event) string {
	return strings.TrimSpace(fmt.Sprintf("%s %d %s/%s/%s %s->%s %s%s", e.GetKind(), e.GetRevision(), e.GetService(), e.GetPool(), e.GetBackend(),
		e.GetFrom(), e.GetTo(), e.GetReason(), e.GetChange().GetDifference()))
}

func TestWatchTellsWhatChanges(t *testing.T) {
	w := serve(t)
	w.plane.set(func() { w.plane.history = revisions(1, 7) })
	stream, err := w.client(t).Watch(t.Context(), &adminpb.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	want := func(lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !stream.Receive() {
				t.Fatal(stream.Err())
			}
			if diff := cmp.Diff(line, eventText(stream.Msg())); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		}
	}
	want("begin 7 // ->")
	w.plane.set(func() {
		w.plane.history = revisions(1, 10)
		w.plane.revision = w.plane.history[0]
		v := sample()
		v.ConfigError = "line 3"
		v.Services[0].Rung = view.RungProxy
		v.Services[0].Reason = "no route"
		v.Services[0].Backends[2].Up = true
		v.Services[0].Backends[0].Known = false
		v.Services[0].Backends[1].Address = "10.0.0.9:80"
		v.Services = v.Services[:4]
		v.Pools[0].Backends[0].Up = false
		w.plane.view = v
	})
	want("revision 8 // ->", "revision 9 // ->", "revision 10 // ->", "config 10 // -> line 3",
		"service 10 gone// ->", "backend 10 web/web/10.0.0.2:80 draining->", "backend 10 gone/gone/10.0.4.1:53 unhealthy->",
		"service 10 web// xdp-native->proxy no route", "backend 10 web/web/10.0.0.1:80 healthy->unknown", "backend 10 web/web/10.0.0.9:80 ->draining",
		"backend 10 web/web/10.0.0.3:80 unhealthy->healthy connection refused", "backend 10 /spare/10.0.5.1:80 healthy->unhealthy")
	w.plane.set(func() { w.plane.view = sample() })
	want("config 10 // ->")
	w.plane.set(func() { w.plane.revision.Number = 11 })
	for stream.Msg().GetKind() != eventRevision {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
	}
	if r := stream.Msg(); r.GetRevision() != 11 || len(r.GetChange().GetEdits()) != 1 {
		t.Errorf("%v", r)
	}
}

func TestStreamsEndWithTheServer(t *testing.T) {
	w := serve(t)
	stream, err := w.client(t).Watch(t.Context(), &adminpb.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	w.end()
	if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeUnavailable {
		t.Errorf("%v, want that the agent is not available", stream.Err())
	}
}

func TestFlowsComeInPartsAndToALimit(t *testing.T) {
	w := serve(t)
	c := w.client(t)
	for i := range 1203 {
		w.datapath.flows = append(w.datapath.flows, &adminpb.Flow{Client: fmt.Sprintf("10.0.0.1:%d", i), Path: pathKernel})
	}
	for limit, want := range map[uint32]int{0: 1203, 1: 1, 500: 500, 501: 501, 5000: 1203} {
		stream, err := c.StreamFlows(t.Context(), &adminpb.StreamFlowsRequest{Limit: limit, Filter: &adminpb.FlowFilter{Service: "web"}})
		if err != nil {
			t.Fatal(err)
		}
		got, parts := 0, 0
		for stream.Receive() {
			got, parts = got+len(stream.Msg().GetFlows()), parts+1
		}
		if stream.Err() != nil || got != want || parts != (want+flowsAtOnce-1)/flowsAtOnce {
			t.Errorf("limit %d: %d flows in %d parts, %v; want %d", limit, got, parts, stream.Err(), want)
		}
		stream.Close()
	}
	if f := w.datapath.asked[0]; f.Service != "web" || !f.Kernel || !f.Proxy {
		t.Errorf("asked for %+v", f)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	w := serve(t)
	_, err := w.client(t).Apply(t.Context(), &adminpb.ApplyRequest{Configuration: strings.Repeat("x", maxMessage+1)})
	if connect.CodeOf(err) != connect.CodeResourceExhausted || len(w.plane.asked()) != 0 {
		t.Errorf("%v, want that it is too much", err)
	}
}

func TestABrokenListenerEndsServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s := &Server{Plane: newPlane(), Datapath: &datapath{}, Log: discard}
	if err := s.Serve(context.WithoutCancel(t.Context()), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v, want %v", err, net.ErrClosed)
	}
}
