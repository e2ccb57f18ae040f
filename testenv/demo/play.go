package main

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

const (
	vip  = "203.0.113.10:80"
	vip6 = "[2001:db8:ff::10]:80"
	url  = "http://" + vip + "/"
	url6 = "http://" + vip6 + "/"
	// requests is divided by three and by two.
	requests = 300
)

// play shows everything, in four scenes.
func play(t *theatre) {
	say("Fairlead: a virtual address of IPv4 and one of IPv6, three web servers, and what happens when things break.")
	say("Everything runs in network namespaces of its own; this machine's interfaces are left alone.")
	s := stage.New(t, stage.Options{
		RigOptions: testenv.RigOptions{Clients: 1, Backends: 3, IPv6: true}, Programs: findPrograms(t),
	})
	raise(t, s)
	balance(t, s)
	loseBackend(t, s)
	loseXDP(t, s)
	say("\nThat was it. Agent, servers, namespaces and all that was in the kernel go away now.")
}

// say prints a line of text.
func say(format string, args ...any) {
	fmt.Println(strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

func scene(n int, title string) { say("\n%d. %s\n", n, title) }

// raise starts servers and the agent.
func raise(t *theatre, s *stage.Stage) {
	scene(1, "Start three servers and the balancer")
	s.Serve(8080)
	const health = "{type: http, path: /health, interval: 500ms, timeout: 500ms, rise: 1, fall: 2}"
	s.Configure(`interfaces: %s
services:
  - {name: web, listen: '%s', backends: %s, health: %s}
  - {name: web6, listen: '%s', backends: %s, health: %[4]s}
`, s.Links(), vip, s.BackendList(8080), health, vip6, s.BackendList6(8080))
	s.StartAgent()
	for i := range s.Backends {
		s.AwaitHealth(i, true)
	}
	v, err := s.View()
	if err != nil {
		t.Fatalf("%v", err)
	}
	for i, client := range []netip.Addr{s.ClientAddrs[0], testenv.Six(s.ClientAddrs[0])} {
		web := v.Services[i]
		say("   client (%s) -> balancer (%s) -> %s", client, web.Listen, addresses(web.Backends))
	}
	say("   fairlead run has attached XDP to %d interfaces; all health checks succeed.", len(v.XDP.Interfaces))
	say("   The services are on the rung %s%s.", v.Services[0].Rung, reason(v.Services[0].Reason))
}

func addresses(backends []view.Backend) string {
	words := make([]string, len(backends))
	for i, b := range backends {
		words[i] = b.Address
	}
	return strings.Join(words, ", ")
}

func reason(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// balance shows the distribution and the kernel's counters.
func balance(t *theatre, s *stage.Stage) {
	scene(2, fmt.Sprintf("Send %d requests, each over a new connection", requests))
	spread(t, s, url)
	say("\n   And as many over IPv6, to the same servers:\n")
	spread(t, s, url6)
	say("\n   The kernel's own counters (loader maps backends):\n")
	indent(s.Loader("maps", "backends").OK(t))
	stats := s.Stats()
	v, err := s.View()
	if err != nil {
		t.Fatalf("%v", err)
	}
	say("   XDP has forwarded %d packets and dropped %d; the proxy in user space has seen %d connections.",
		stats.Kinds["forward"], stats.Kinds["drop"], v.Proxy.TCP.Accepted)
}

func indent(text string) {
	for line := range strings.Lines(text) {
		fmt.Print("     ", line)
	}
	fmt.Println()
}

// spread sends requests and shows who answered.
func spread(t *theatre, s *stage.Stage, url string) {
	start := time.Now()
	count, err := s.Spread(0, url, requests)
	took := time.Since(start)
	answered := 0
	for _, h := range s.Backends {
		n := count[h.Name]
		answered += n
		say("   %-9s %4d  %s", h.Name, n, strings.Repeat("#", n/10))
	}
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		t.Fatalf("%d of %d requests failed, for one: %s", requests-answered, requests, first)
	}
	say("   %d of %d answered, in %.1f s.", answered, requests, took.Seconds())
}

// loseBackend kills a server and shows that traffic moves.
func loseBackend(t *theatre, s *stage.Stage) {
	scene(3, "Kill the server on backend2")
	killed := time.Now()
	s.Servers[1].Stop(syscall.SIGKILL)
	b := s.AwaitHealth(1, false).Services[0].Backends[1]
	say("   The health check has taken it out, %.1f s later: %s.", max(0, b.Since.Sub(killed).Seconds()), b.LastError)
	say("   %d more requests:\n", requests)
	spread(t, s, url)
}

// loseXDP detaches and shows that the proxy takes over.
func loseXDP(t *theatre, s *stage.Stage) {
	scene(4, "Take XDP out of the kernel (loader detach)")
	s.Loader("detach", "--grace", "2s").OK(t)
	v := s.AwaitView("the proxy's rung", func(v *view.View) bool {
		return v.Services[0].Rung == view.RungProxy && v.Services[1].Rung == view.RungProxy
	})
	before := v.Proxy.TCP.Accepted
	say("   The services are on the rung %s now: %s.", view.RungProxy, v.Services[0].Reason)
	say("   %d more requests, through user space:\n", requests)
	spread(t, s, url)
	v = s.AwaitView("the proxy's count", func(v *view.View) bool {
		return v.Proxy.TCP.Accepted-before >= requests
	})
	say("   The proxy has taken over %d connections, and knows too that backend2 is down.", v.Proxy.TCP.Accepted-before)
}
