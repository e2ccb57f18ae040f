package udpproxy

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

func TestOnlyNewFlowsAreAdmitted(t *testing.T) {
	var answer atomic.Int32
	p := serve(t, &Proxy{
		Pick:  to(echo(t, loopback, nil)),
		Admit: func(netip.Addr) model.Admission { return model.Admission(answer.Load()) },
	})
	open := client(t, p.addr)
	ask(t, open, "1")
	refused := client(t, p.addr)
	for i, why := range []model.Admission{model.Denied, model.Limited, model.Limited} {
		answer.Store(int32(why))
		if _, err := refused.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		await(t, "the datagram is dropped", func() bool { return p.Stats().Dropped == uint64(i+1) })
	}
	ask(t, open, "2")
	answer.Store(int32(model.Admitted))
	ask(t, refused, "3")
	sums := Traffic{3, 3}
	await(t, "all is counted", func() bool { s := p.Stats(); return s.ToClients == sums && s.ToBackends == sums })
	want := Stats{Flows: 2, Opened: 2, Denied: 1, SourceLimit: 2, Dropped: 3, ToBackends: sums, ToClients: sums}
	if diff := cmp.Diff(want, p.Stats()); diff != "" {
		t.Errorf("stats -want +got:\n%s", diff)
	}
}
