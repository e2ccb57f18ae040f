package e2e

import (
	"fmt"
	"strconv"
	"syscall"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/testenv/testca"
	"fairlead/userspace/view"
)

// TestReloadsAndCertificatesFailNoRequest changes pools, weights, checks and
// certificates of HTTP services while wrk asks them: over connections that stay, and
// over new ones with a handshake each.
func TestReloadsAndCertificatesFailNoRequest(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	s.Clients[0].Sysctl(t, "net.ipv4.tcp_tw_reuse", "1") // or ports run out
	ca := testca.New(t)
	leaf := testca.Leaf{Names: []string{"certificate0"}}
	leaf.Cert, leaf.Key = ca.Issue(leaf)
	configure := func(i int) (pool string) {
		pool = fmt.Sprint("pool", i%3)
		s.Configure(`
interfaces: %s
services:
  - {name: web, listen: %s:80, forward: http, routes: [{match: /, pool: %s}]}
  - {name: secure, listen: %s:443, forward: http, tls: {certificates: [{cert: %s, key: %s}]}, routes: [{match: /, pool: %s}]}
pools:
  %s: {backends: %s, health: {type: tcp, interval: %ds, timeout: 20s}}
`, s.Links(), vip, pool, vip, leaf.Cert, leaf.Key, pool, pool, s.BackendList(8080, 1, 1+i%2, i%3), 20+i%4)
		return pool
	}
	configure(0)
	agent := s.StartAgent()
	wrk := []*stage.Process{
		startWrk(t, s, web, 8),
		startWrk(t, s, "https://"+vip+"/", 4),
		startWrk(t, s, "https://"+vip+"/", 2, "-H", "Connection: close"),
	}
	for i := range slow(4, 100) {
		answered := awaitAnswers(s, 0)
		if i%5 == 2 {
			leaf.Names = []string{fmt.Sprint("certificate", i)}
			ca.Issue(leaf)
			s.AwaitView("another certificate", func(v *view.View) bool { return v.Services[1].Certificates[0].Names[0] == leaf.Names[0] })
		}
		pool := configure(i + 1)
		agent.Signal(syscall.SIGHUP)
		s.AwaitView("another pool", func(v *view.View) bool { return v.Services[1].Backends[0].Pool == pool })
		awaitAnswers(s, answered+50)
	}
	asked := uint64(0)
	for _, p := range wrk {
		p.Signal(syscall.SIGINT) // it says what it has seen, and ends
		p.Wait()
		wantCleanWrk(t, p.Output())
		if m := wrkRequests.FindStringSubmatch(p.Output()); m != nil {
			n, _ := strconv.ParseUint(m[1], 10, 64) // digits
			asked += n
		}
	}
	v := s.AwaitView("all requests to end", func(v *view.View) bool { // one from before may have none that runs
		return v.Proxy.HTTP.Requests >= asked && v.Proxy.HTTP.Running == 0
	})
	got := v.Proxy.HTTP
	if a := got.Answers; a.Good < asked || a.Elsewhere+a.Clients+a.Servers > 0 || got.NoBackend > 0 {
		t.Errorf("wrk has seen %d answers, the agent gave %+v", asked, got)
	}
	t.Logf("%d requests", asked)
	if code := agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with status %d", code)
	}
}

// startWrk has wrk ask a URL until it is interrupted.
func startWrk(t *testing.T, s *stage.Stage, url string, connections int, more ...string) *stage.Process {
	args := append([]string{"-t", "1", "-c", fmt.Sprint(connections), "-d", "1h", "--timeout", "1m"}, more...)
	return s.Start(s.Clients[0], tool(t, "wrk"), append(args, url)...)
}

// awaitAnswers waits until the agent has answered more than so many requests, and
// returns how many it has by then.
func awaitAnswers(s *stage.Stage, more uint64) uint64 {
	v := s.AwaitView("answers", func(v *view.View) bool { return v.Proxy.HTTP.Answers.Good > more })
	return v.Proxy.HTTP.Answers.Good
}
