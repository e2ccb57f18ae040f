package splice

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"fairlead/userspace/model"
)

// nameFirst reads three letters that say whom a connection is of.
func nameFirst(netip.Addr) func(net.Conn) (client, server netip.AddrPort, err error) {
	return func(c net.Conn) (client, server netip.AddrPort, err error) {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		var name [3]byte
		if _, err := io.ReadFull(c, name[:]); err != nil {
			return client, server, err
		}
		_ = c.SetReadDeadline(time.Time{})
		switch string(name[:]) {
		case "ann":
			return netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("203.0.113.10:80"), nil
		case "bob":
			return netip.MustParseAddrPort("192.0.2.66:1"), netip.MustParseAddrPort("203.0.113.10:80"), nil
		case "own":
			return client, server, nil
		}
		return client, server, errors.New("nobody knows whom it is of")
	}
}

func announcing(t *testing.T) *running {
	return serve(t, &Proxy{
		Pick: to(listen(t, echo)), Origin: nameFirst,
		First: func(client, server netip.AddrPort) []byte { return fmt.Appendf(nil, "%s %s\n", client, server) },
		Admit: func(client netip.Addr) model.Admission {
			if client == netip.MustParseAddr("192.0.2.66") {
				return model.Denied
			}
			return model.Admitted
		},
	})
}

func TestWhomAConnectionIsOfIsLearntAndTold(t *testing.T) {
	p := announcing(t)
	for _, row := range []struct{ sent, want string }{
		{"annhello", "192.0.2.1:1 203.0.113.10:80\nhello"},
		{"ownhello", "%s " + p.addr.String() + "\nhello"},
	} {
		c := dial(t, p.addr)
		want := row.want
		if want[0] == '%' {
			want = fmt.Sprintf(want, c.LocalAddr())
		}
		if _, err := io.WriteString(c, row.sent); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want)) // the backend sends back what it gets
		if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
			t.Errorf("%q: the backend gets %q, %v, want %q", row.sent, got, err, want)
		}
	}
	for _, sent := range []string{"bobhello", "xxxhello"} {
		c := dial(t, p.addr)
		if _, err := io.WriteString(c, sent); err != nil {
			t.Fatal(err)
		}
		wantReset(t, c)
	}
	await(t, "all is counted", func() bool { s := p.Stats(); return s.Denied == 1 && s.Unannounced == 1 && s.Accepted == 4 })
}

func TestWhoDoesNotSayWhomItIsOfDoesNotHoldUpTheEnd(t *testing.T) {
	p := announcing(t)
	dial(t, p.addr)
	await(t, "the client is accepted", func() bool { return p.Stats().Accepted == 1 })
	p.stop()
}
