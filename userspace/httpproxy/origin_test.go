package httpproxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fairlead/userspace/model"
)

// lineFirst reads a line that says whom a connection is of.
func lineFirst(netip.Addr) func(net.Conn) (client, server netip.AddrPort, err error) {
	return func(c net.Conn) (client, server netip.AddrPort, err error) {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		var line []byte
		for b := make([]byte, 1); err == nil && !strings.HasSuffix(string(line), "\n"); line = append(line, b...) {
			_, err = c.Read(b)
		}
		_ = c.SetReadDeadline(time.Time{})
		if string(line) == "myself\n" || err != nil {
			return client, server, err
		}
		_, err = fmt.Sscan(strings.TrimSpace(string(line)), &texts{&client, &server})
		return client, server, err
	}
}

// texts scans two addresses with a dash between them.
type texts struct{ client, server *netip.AddrPort }

func (x *texts) Scan(state fmt.ScanState, _ rune) error {
	word, err := state.Token(true, nil)
	if err != nil {
		return err
	}
	client, server, _ := strings.Cut(string(word), "-")
	if *x.client, err = netip.ParseAddrPort(client); err != nil {
		return err
	}
	*x.server, err = netip.ParseAddrPort(server)
	return err
}

func TestAConnectionIsOfWhomThePeerSays(t *testing.T) {
	back := take(t, say("ok"))
	pool := NewPool(nil)
	update(pool, poolOf(back.addr()))
	judged := make(chan netip.Addr, 10)
	p := &Proxy{Origin: lineFirst, Admit: func(a netip.Addr) model.Admission {
		judged <- a
		if a == netip.MustParseAddr("192.0.2.66") {
			return model.Denied
		}
		return model.Admitted
	}}
	f := start(t, p, map[string]*Pool{"main": pool}, everything(usual))
	ask := func(first string) string {
		c, r := f.dial()
		fmt.Fprint(c, first, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		answer, err := io.ReadAll(r)
		if err != nil {
			return "reset"
		}
		return string(answer)
	}
	for _, row := range []struct{ first, forwardedFor string }{
		{"192.0.2.1:1025-203.0.113.10:80\n", "192.0.2.1"},
		{"[2001:db8::1]:1025-[2001:db8::10]:80\n", "2001:db8::1"},
		{"myself\n", "127.0.0.1"},
		{"192.0.2.66:1025-203.0.113.10:80\n", ""},
		{"nonsense\n", ""},
	} {
		before := len(back.seen())
		answer := ask(row.first)
		seen := back.seen()[before:]
		switch {
		case row.forwardedFor == "" && (answer != "reset" || len(seen) != 0):
			t.Errorf("%q: answer %q, %q arrives", row.first, answer, seen)
		case row.forwardedFor != "" && (len(seen) != 1 || !strings.Contains(seen[0], "\r\nX-Forwarded-For: "+row.forwardedFor+"\r\n")):
			t.Errorf("%q: %q arrives, want it for %s", row.first, seen, row.forwardedFor)
		}
	}
	if s := p.Stats(); s.Denied != 1 || s.Unannounced != 1 || s.Accepted != 5 {
		t.Errorf("stats %+v", s)
	}
	if len(judged) != 4 {
		t.Errorf("%d were judged, want those who said who they are", len(judged))
	}
}

func TestWhoSaysNothingDoesNotHoldUpTheEnd(t *testing.T) {
	f := start(t, &Proxy{Origin: lineFirst, Grace: patience}, nil, &model.HTTP{})
	f.dial()
	eventually(t, "the client is accepted", func() bool { return f.Stats().Accepted == 1 })
	f.stop()
	f.await()
}

func TestABackendIsToldFirstWhomAConnectionIsOf(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(got)
				return
			}
			r := bufio.NewReader(c)
			for line := "-"; line != "\r\n"; {
				if line, err = r.ReadString('\n'); err != nil {
					break
				}
				got <- line
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	defer l.Close()
	conf := poolOf(l.Addr().String())
	p := NewPool(nil)
	p.First = func(v model.ProxyVersion, client, server netip.AddrPort) []byte {
		return fmt.Appendf(nil, "%s %s %s\r\n", v, client, server)
	}
	conf.SendProxy = model.ProxyV1
	update(p, conf)
	f := start(t, &Proxy{}, map[string]*Pool{"main": p}, everything(usual))
	c, r := f.dial()
	for range 2 { // over one connection of the client, each over one of its own
		fmt.Fprint(c, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, body := answerOf(t, r, false); body != "ok" {
			t.Fatalf("answer %q", body)
		}
		want := []string{fmt.Sprintf("v1 %s %s\r\n", c.LocalAddr(), f.addr), "GET /x HTTP/1.1\r\n"}
		for _, line := range want {
			if l := await(t, got); l != line {
				t.Errorf("line %q arrives, want %q", l, line)
			}
		}
		for await(t, got) != "\r\n" {
		}
	}
}
