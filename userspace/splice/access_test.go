package splice

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"fairlead/userspace/accesslog"
	"fairlead/userspace/model"
)

// TestWhoGetsNoBackendIsLogged: with the reason, and how often another was tried.
func TestWhoGetsNoBackendIsLogged(t *testing.T) {
	back := closedPort(t)
	admit := func(a model.Admission) func(netip.Addr) model.Admission {
		return func(netip.Addr) model.Admission { return a }
	}
	for _, row := range []struct {
		name  string
		proxy *Proxy
		want  accesslog.Reason
	}{
		{"refused by all", &Proxy{Pick: to(back)}, accesslog.NoBackend},
		{"denied", &Proxy{Pick: to(back), Admit: admit(model.Denied)}, accesslog.Denied},
		{"limited", &Proxy{Pick: to(back), Admit: admit(model.Limited)}, accesslog.Limit},
		{"no way", &Proxy{Route: func(context.Context, *net.TCPConn) Way { return Way{} }}, accesslog.NoBackend},
	} {
		told := make(chan *accesslog.Record, 1)
		row.proxy.Access = func() func(*accesslog.Record) { return func(r *accesslog.Record) { told <- r } }
		if c, err := net.Dial("tcp", serve(t, row.proxy).addr.String()); err == nil { // it may be reset by now
			defer c.Close()
		}
		r := <-told
		if r.Ending != (accesslog.Ending{By: accesslog.Agent, Reason: row.want}) || r.Backend != "" || r.BytesIn != 0 {
			t.Errorf("%s: %+v", row.name, r)
		}
	}
}

func TestACutConnectionIsLogged(t *testing.T) {
	back, told := listen(t, echo), make(chan *accesslog.Record, 1)
	p := serve(t, &Proxy{Pick: to(back), Access: func() func(*accesslog.Record) { return func(r *accesslog.Record) { told <- r } }})
	c := dial(t, p.addr)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.CloseBackend(back)
	if r := <-told; r.Ending != (accesslog.Ending{By: accesslog.Agent, Reason: accesslog.Cut}) || r.BytesIn != 1 || r.BytesOut != 1 {
		t.Errorf("%+v", r)
	}
}
