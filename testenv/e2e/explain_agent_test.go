package e2e

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// await asks until the text is as the row says.
func (a asked) await(t *testing.T, s *stage.Stage) {
	t.Helper()
	text := ""
	stage.Await(t, a.name, func() error {
		text = a.ask(t, s)
		for _, want := range a.want {
			if !strings.Contains(text, want) {
				return fmt.Errorf("%q is not in:\n%s", want, text)
			}
		}
		return nil
	})
	t.Logf("%s:\n%s", a.name, text)
}

// TestExplainKnowsWhatTheAgentKnows wants why backends wait, which only the agent
// and the configuration know.
func TestExplainKnowsWhatTheAgentKnows(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	b := s.BackendAddrs
	configure := func(leaving string) {
		s.Configure(`
interfaces: %s
zone: east
services:
  - {name: near, listen: '%s:80', health: {type: none}, backends: [{address: '%s:8080', zone: east}, {address: '%s:8080', zone: west}, {address: '%s:8080', backup: true}]}
  - {name: half, listen: '%s:81', health: {type: none}, backends: %s}
  - {name: panic, listen: '%s:82', backends: %s, health: {type: tcp, interval: 100ms, rise: 1, fall: 1}}
  - {name: calm, listen: '%s:83', panic-threshold: 0, backends: %s, health: {type: tcp, interval: 100ms, rise: 1, fall: 1}}
  - {name: shrunk, listen: '%s:84', drain: 1h, health: {type: none}, backends: [{address: '%s:8080'}%s]}
  - {name: proxied, listen: '%s:85', forward: proxy, backends: %s}
`, s.Links(), vip, b[0], b[1], b[2], vip, s.BackendList(8080, 1, 0, 1), vip, s.BackendList(8080), vip, s.BackendList(8080),
			vip, b[0], leaving, vip, s.BackendList(8080))
	}
	configure(fmt.Sprintf(", {address: '%s:8080'}", b[1]))
	agent := s.StartAgent()
	for range 2 { // one of them to the backend that leaves
		if _, err := s.Dial(0, vip+":84"); err != nil {
			t.Fatal(err)
		}
	}
	configure("")
	agent.Signal(syscall.SIGHUP)
	s.AwaitView("a backend that leaves", func(v *view.View) bool {
		return len(v.Services[4].Backends) == 2 && v.Services[4].Backends[1].Drains != nil
	})
	s.Servers[1].Stop(syscall.SIGKILL)
	s.Servers[2].Stop(syscall.SIGKILL)
	for _, a := range []asked{
		{name: "zone and backup", to: vip + ":80", want: []string{
			"serving        the backends of this host's zone alone", b[1].String() + ":8080: waits in zone west", b[2].String() + ":8080: waits as backup"}},
		{name: "weight 0", to: vip + ":81", want: []string{b[1].String() + ":8080: draining: its weight is 0"}},
		{name: "panic", to: vip + ":82", want: []string{"serving        all backends, down or not: too few are up (panic-threshold)"}},
		{name: "down", to: vip + ":83", want: []string{"next would be  " + b[0].String() + ":8080", b[1].String() + ":8080: down", b[2].String() + ":8080: down"}},
		{name: "leaving", to: vip + ":84", want: []string{b[1].String() + ":8080: draining: the configuration has it no more"}},
		{name: "the proxy's", to: vip + ":85", want: []string{"which the proxy serves (forward: proxy)", "pass_proxy"}},
	} {
		a.await(t, s)
	}
	s.Servers[0].Stop(syscall.SIGKILL)
	asked{name: "nobody is up", to: vip + ":83", want: []string{
		"serving  nobody: every backend is down or draining", "choice   none: no backend can serve", b[0].String() + ":8080: down", "no backend can serve"}}.await(t, s)
	if code := agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with status %d", code)
	}
}

// TestExplainSpeaksOfFloods asks while there are more SYNs, and flows of a network,
// than there may be.
func TestExplainSpeaksOfFloods(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	s.Balancer.Sysctl(t, "net.ipv4.tcp_syncookies", "2")
	s.Configure(`
interfaces: %s
services:
  - {name: web, listen: '%s:80', backends: %s, health: {type: none}, syn-cookies: {above: 1}}
  - {name: echo, listen: '%s:7', protocol: udp, backends: %s, clients: {limit: {rate: 1, burst: 1, prefix: 24}}}
`, s.Links(), vip, s.BackendList(8080), vip, s.BackendList(8080))
	agent := s.StartAgent()
	flood := overAndOver(func() error {
		if _, err := s.Get(0, web); err != nil {
			return err
		}
		return s.Clients[0].In(func() error { // a flow of its own, whose answer nobody waits for
			c, err := net.Dial("udp", vip+":7")
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("hello"))
			return err
		})
	})
	asked{name: "SYNs", to: vip + ":80", want: []string{"answer   from " + vip + ":80", "answer_cookie: answered with a SYN cookie"}}.await(t, s)
	asked{name: "flows", args: "--proto udp", to: vip + ":7", want: []string{
		"client   its network of /24 may open 1 a second, and 1 at once", "drop_source_limit: dropped: the client's network opens more"}}.await(t, s)
	if n, err := flood(); err != nil {
		t.Errorf("after %d requests: %v", n, err)
	}
	agent.Stop(syscall.SIGTERM)
}
