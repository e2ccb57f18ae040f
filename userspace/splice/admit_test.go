package splice

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

func TestWhoIsNotAdmittedIsReset(t *testing.T) {
	var answer atomic.Int32
	var asked netip.Addr
	var picked atomic.Int32
	pick := to(listen(t, echo))
	p := serve(t, &Proxy{
		Admit: func(client netip.Addr) model.Admission {
			asked = client
			return model.Admission(answer.Load())
		},
		Pick: func(client, local netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
			picked.Add(1)
			return pick(client, local, tried)
		},
	})
	open := dial(t, p.addr)
	roundTrip(t, open, "hello")
	answer.Store(int32(model.Denied))
	wantRefused(t, p.addr)
	answer.Store(int32(model.Limited))
	wantRefused(t, p.addr)
	wantRefused(t, p.addr)
	roundTrip(t, open, "still here")
	want := Stats{Accepted: 4, Active: 1, Denied: 1, SourceLimit: 2, ToBackends: 15, ToClients: 15}
	await(t, "all is counted", func() bool { s := p.Stats(); return s.ToClients == want.ToClients && s.ToBackends == want.ToBackends })
	if diff := cmp.Diff(want, p.Stats()); diff != "" {
		t.Errorf("stats -want +got:\n%s", diff)
	}
	if picked.Load() != 1 {
		t.Errorf("Pick was asked %d times, want once", picked.Load())
	}
	if asked != p.addr.Addr() { // over loopback both ends have it
		t.Errorf("Admit was asked about %v", asked)
	}
}

// wantRefused wants a connection to be reset, perhaps before Dial has seen it made.
func wantRefused(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	wantReset(t, c)
}
