package splice

import (
	"net"
	"net/netip"
	"testing"

	"fairlead/userspace/model"
)

func TestKillResetsThoseThatAreMeant(t *testing.T) {
	one, other := listen(t, echo), listen(t, echo)
	turn := 0
	p := serve(t, &Proxy{Pick: func(_, _ netip.AddrPort, _ []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		turn++ // clients come one after the other
		return []netip.AddrPort{one, other}[turn%2], nil, true
	}})
	var conns []*net.TCPConn
	for range 4 {
		c := dial(t, p.addr)
		roundTrip(t, c, "before")
		conns = append(conns, c)
	}
	all := p.Proxied()
	if len(all) != 4 {
		t.Fatalf("%d connections, want 4", len(all))
	}
	for _, x := range all {
		if x.Virtual != p.addr || x.Backend != one && x.Backend != other || !x.Client.IsValid() {
			t.Errorf("%+v", x)
		}
	}
	own := addrPort(conns[0].LocalAddr())
	if n := p.Kill(func(x model.Proxied) bool { return x.Client == own }); n != 1 {
		t.Errorf("killed %d, want the one of %s", n, own)
	}
	wantReset(t, conns[0])
	for _, c := range conns[1:] {
		roundTrip(t, c, "after")
	}
	if n := p.Kill(func(x model.Proxied) bool { return x.Backend == one }); n != 2 {
		t.Errorf("killed %d, want the two with %s", n, one)
	}
	roundTrip(t, conns[2], "after")
	await(t, "the killed ones are over", func() bool { return len(p.Proxied()) == 1 })
}
