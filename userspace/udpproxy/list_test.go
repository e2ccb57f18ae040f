package udpproxy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

func TestKillForgetsThoseThatAreMeant(t *testing.T) {
	var j journal
	back := echo(t, loopback, nil)
	p := serve(t, &Proxy{OnFlow: j.onFlow, Pick: to(back)})
	one, other := client(t, p.addr), client(t, p.addr)
	ask(t, one, "x")
	ask(t, other, "x")
	if all := p.Proxied(); len(all) != 2 || all[0].Backend != back || all[0].Virtual != p.addr {
		t.Errorf("%+v", all)
	}
	own := addrPort(one.LocalAddr())
	if n := p.Kill(func(x model.Proxied) bool { return x.Client == own }); n != 1 {
		t.Errorf("killed %d, want the one of %s", n, own)
	}
	if diff := cmp.Diff([]string{"open", "open", "gone"}, j.all()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	ask(t, one, "again") // by a new flow
	ask(t, other, "still")
	if s := p.Stats(); s.Flows != 2 || s.Opened != 3 {
		t.Errorf("stats %+v", s)
	}
}
