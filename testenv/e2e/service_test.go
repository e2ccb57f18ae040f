package e2e

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

func TestUDPService(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	s.Configure("interfaces: %s\nservices: [{name: echo, listen: %s:7, protocol: udp, backends: %s}]", s.Links(), vip, s.BackendList(8080))
	s.Loader("attach").OK(t)
	account := s.Account()
	count := map[string]int{}
	for i := range 30 {
		port := uint16(30000 + i)
		var last string
		for range 3 { // one flow, one backend
			message, seen, err := s.Echo(0, port, vip+":7", "hello")
			if err != nil {
				t.Fatal(err)
			}
			if want := netip.AddrPortFrom(s.ClientAddrs[0], port); seen != want {
				t.Errorf("%s saw %s, want %s", message, seen, want)
			}
			if last != "" && message != last {
				t.Errorf("port %d went to %s, then to %s", port, last, message)
			}
			last = message
		}
		count[last]++
	}
	if count["backend1"] != 10 || count["backend2"] != 10 || count["backend3"] != 10 {
		t.Errorf("30 flows went to %v", count)
	}
	wantAllXDP(t, s, account)
}

func TestPortRange(t *testing.T) {
	s := stage.New(t, stage.Options{RigOptions: testenv.RigOptions{Backends: 1}, Programs: programs})
	for _, port := range []string{"8000", "8050", "8100"} {
		p := s.Start(s.Backends[0], programs.Dummyserver, "--port", port, "--message", port)
		p.AwaitOutput("listens on port")
	}
	s.Configure("interfaces: %s\nservices: [{name: media, listen: %s:8000-8100, backends: [{address: %s}]}]",
		s.Links(), vip, s.BackendAddrs[0])
	s.Loader("attach").OK(t)
	account := s.Account()
	for _, port := range []string{"8000", "8050", "8100"} {
		a, err := s.Get(0, "http://"+vip+":"+port+"/")
		if err != nil || a.Message != port {
			t.Errorf("port %s was answered by %q: %v", port, a.Message, err)
		}
	}
	wantAllXDP(t, s, account)
	for _, port := range []string{"7999", "8101"} {
		if _, err := s.Dial(0, vip+":"+port); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("port %s, outside: %v, want %v", port, err, syscall.ECONNREFUSED)
		}
	}
}

func twoServices(t *testing.T, s *stage.Stage) {
	t.Helper()
	s.Configure(`
interfaces: %s
services:
  - {name: one, listen: %s:80, backends: %s}
  - {name: two, listen: %s:81, backends: %s}
`, s.Links(), vip, s.BackendList(8080), vip, s.BackendList(8080))
	s.Loader("attach").OK(t)
}

// dialFrom opens a connection from a port that other connections may use too.
func dialFrom(t *testing.T, s *stage.Stage, port int, addr string) *stage.Talk {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stage.Patience)
	defer cancel()
	d := net.Dialer{
		LocalAddr: &net.TCPAddr{Port: port},
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
			return errors.Join(err, cerr)
		},
	}
	var c net.Conn
	s.Clients[0].Do(t, func() (err error) {
		c, err = d.DialContext(ctx, "tcp4", addr)
		return err
	})
	t.Cleanup(func() { c.Close() })
	return stage.NewTalk(c)
}

func wantAnswer(t *testing.T, talk *stage.Talk, message string) {
	t.Helper()
	if a, err := talk.Ask(); err != nil || a.Message != message {
		t.Errorf("%s was answered by %q, want %s: %v", talk.RemoteAddr(), a.Message, message, err)
	}
}
