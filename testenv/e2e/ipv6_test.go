package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// Both families of a site share their backends, and nothing else.
func TestBothFamiliesAtOnce(t *testing.T) {
	six := families[1]
	s := six.stage(t, testenv.RigOptions{})
	six.configure(s, "", "  - {name: web4, listen: '"+vip+":80', backends: "+s.BackendList(8080)+", health: {type: none}}")
	s.Loader("attach").OK(t)
	account := s.Account()
	for range 2 {
		for _, b := range s.Backends {
			for _, url := range []string{web, web6} {
				if a, err := s.Get(0, url); err != nil || a.Message != b.Name {
					t.Errorf("%s was answered by %q, want %s: %v", url, a.Message, b.Name, err)
				}
			}
			message, seen, err := s.Echo(0, 0, six.at(7), "hello")
			if err != nil || message != b.Name || seen.Addr() != testenv.Six(s.ClientAddrs[0]) {
				t.Errorf("%s saw %s, want %s to see the client: %v", message, seen, b.Name, err)
			}
		}
	}
	wantAllXDP(t, s, account)
	out := s.Loader("maps", "flows").OK(t)
	for _, want := range []string{vip + ":80", six.at(80), six.at(7)} {
		if n := strings.Count(out, " "+want+" "); n != 6 {
			t.Errorf("%d flows to %s are listed, want 6:\n%s", n, want, out)
		}
	}
	s.Loader("detach").OK(t)
}

// Clients that are neighbours of the service address ask who has it.
func TestServiceAddressOnTheLinkOfClients(t *testing.T) {
	f := families[1]
	f.vip = onLink
	s := f.stage(t, testenv.RigOptions{Clients: 2})
	f.configure(s, "", "")
	s.Loader("attach").OK(t)
	account := s.Account()
	for client := range s.Clients { // on the link, and behind a router: the balancer
		for _, b := range s.Backends {
			if a, err := s.Get(client, f.web()); err != nil || a.Message != b.Name {
				t.Errorf("client %d was answered by %q, want %s: %v", client, a.Message, b.Name, err)
			}
		}
	}
	closeAccount(t, account)
	if v := s.Stats(); v.Forwarded.Flows != 6 {
		t.Errorf("XDP made %d flows of 6: %v", v.Forwarded.Flows, v.Verdicts)
	}
}

// onLink is a service address among the first client's neighbours.
const onLink = "2001:db8:1:1::80"

// Addresses of an interface go with its link, unlike those of lo.
func TestServiceAddressComesBackWithItsLink(t *testing.T) {
	f := families[1]
	f.vip = onLink
	s := f.stage(t, testenv.RigOptions{Clients: 2})
	f.configure(s, "", "")
	agent := s.StartAgent()
	s.Balancer.Sysctl(t, "net.ipv6.conf."+s.ClientLinks[0]+".keep_addr_on_down", "0")
	setLink(t, s, s.ClientLinks[0], false)
	stage.Await(t, "the other client to be served without the link", func() error {
		_, err := s.Get(1, f.web())
		return err
	})
	setLink(t, s, s.ClientLinks[0], true)
	s.Balancer.Do(t, func() error { return addOwn(s) })
	stage.Await(t, "the service address to be on its interface", func() error {
		return s.Balancer.In(func() error { return wantOn(s.ClientLinks[0], onLink) })
	})
	stage.Await(t, "the client to be back", func() error {
		_, err := s.Get(0, f.web())
		return err
	})
	agent.Stop(syscall.SIGTERM)
}

// addOwn puts the balancer's own address back on the first client's cable, as
// who configured it would.
func addOwn(s *stage.Stage) error {
	l, err := netlink.LinkByName(s.ClientLinks[0])
	if err != nil {
		return err
	}
	own, err := netlink.ParseAddr(testenv.Six(s.ClientAddrs[0].Prev()).String() + "/64")
	if err != nil {
		return err
	}
	return netlink.AddrReplace(l, own)
}

// wantOn says whether an address is on one interface only.
func wantOn(name, addr string) error {
	var on []string
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		addrs, err := netlink.AddrList(l, unix.AF_INET6)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if a.IP.String() == addr {
				on = append(on, l.Attrs().Name)
			}
		}
	}
	if !slices.Equal(on, []string{name}) {
		return fmt.Errorf("%s is on %v, want %s", addr, on, name)
	}
	return nil
}

func TestIPv6BehindRouters(t *testing.T) {
	f := families[1]
	s := f.stage(t, testenv.RigOptions{Backends: 1})
	client, addr := s.Behind(t, s.Clients[0])
	f.configure(s, "", "")
	s.Loader("attach").OK(t)
	account := s.Account()
	for range 3 {
		a, err := stage.GetFrom(client, f.web())
		seen, parseErr := netip.ParseAddrPort(a.Client)
		if err := errors.Join(err, parseErr); err != nil || seen.Addr() != testenv.Six(addr) {
			t.Errorf("the backend saw %s, want %s: %v", seen, testenv.Six(addr), err)
		}
	}
	wantAllXDP(t, s, account)
}

func TestIPv6BackendThatDiesIsTakenOut(t *testing.T) {
	f := families[1]
	s := f.stage(t, testenv.RigOptions{})
	s.Configure("interfaces: %s\nservices: [{name: web, listen: '%s', backends: %s, %s}]", s.Links(), f.at(80), f.backends(s, 8080), check)
	agent := s.StartAgent()
	for i := range s.Backends {
		s.AwaitHealth(i, true)
	}
	talk, err := s.Dial(0, f.at(80))
	if err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, talk, "backend1")
	s.Servers[0].Signal(syscall.SIGSTOP)
	s.AwaitHealth(0, false)
	if _, err := talk.Ask(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the open connection of the hung backend: %v, want %v", err, syscall.ECONNRESET)
	}
	count, err := s.Spread(0, f.web(), 20)
	if err != nil || count["backend2"] != 10 || count["backend3"] != 10 {
		t.Errorf("20 requests were answered by %v: %v", count, err)
	}
	s.Servers[0].Signal(syscall.SIGCONT)
	s.AwaitHealth(0, true)
	agent.Stop(syscall.SIGTERM)
}

func TestIPv6ByProxy(t *testing.T) {
	f := families[1]
	s := f.stage(t, testenv.RigOptions{})
	s.Configure("xdp: off\nservices:\n  - {name: web, listen: '%s', backends: %s}\n  - {name: echo, listen: '%s', protocol: udp, backends: %s}\n",
		f.at(80), f.backends(s, 8080), f.at(80), f.backends(s, 8080))
	agent := s.StartAgent()
	wantProxied(t, s, f.at(80))
	if code := agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with status %d", code)
	}
	if _, err := s.Get(0, web6); err == nil {
		t.Error("without the agent somebody answers")
	}
}

// A planned detach hands what is new to the proxy, and attaching takes it back.
func TestIPv6DetachAndAttachFailNoConnection(t *testing.T) {
	f := families[1]
	s := f.stage(t, testenv.RigOptions{})
	f.configure(s, "", "")
	agent := s.StartAgent()
	end := overAndOver(func() error {
		_, err := s.Get(0, web6)
		return err
	})
	stage.Await(t, "flows", func() error { return wantForwarded(s, 200) })
	s.Loader("detach", "--grace", "1m").OK(t)
	before := accepted(t, s)
	s.AwaitView("the proxy's rung and connections", func(v *view.View) bool {
		return v.Services[0].Rung == view.RungProxy && v.Proxy.TCP.Accepted > before+10
	})
	const port = 40001
	proxied, _, err := s.Echo(0, port, f.at(7), "hello")
	if err != nil {
		t.Errorf("a datagram through the proxy: %v", err)
	}
	agent.Signal(syscall.SIGHUP)
	s.AwaitView("XDP's rung", func(v *view.View) bool { return v.Services[0].Rung == view.RungNative })
	stage.Await(t, "flows", func() error { return wantForwarded(s, 100) })
	again, _, err := s.Echo(0, port, f.at(7), "hello")
	if n := s.Stats().Verdicts["pass_standby"]; err != nil || again != proxied || n != 1 {
		t.Errorf("a flow of the proxy went to %q, then %q, and %d datagrams were left to it: %v", proxied, again, n, err)
	}
	if n, err := end(); err != nil {
		t.Errorf("a new connection failed after %d good ones: %v", n, err)
	}
	agent.Stop(syscall.SIGTERM)
}

func TestIPv6ClientsAreJudged(t *testing.T) {
	f := families[1]
	for name, w := range map[string]way{"xdp": {"", "dnat", true}, "xdp off": {"xdp: off", "dnat", false}} {
		t.Run(name, func(t *testing.T) {
			s := f.stage(t, testenv.RigOptions{Clients: 2})
			s.Configure(`
interfaces: %s
%s
services:
  - name: echo
    listen: '%s'
    protocol: udp
    backends: %s
    clients: {allow: ['2001:db8:1::/48'], deny: ['%s'], limit: {rate: 1, burst: 3}}
`, s.Links(), w.top, f.at(7), f.backends(s, 8080), testenv.Six(s.ClientAddrs[1]))
			agent := s.StartAgent()
			const asked, refused = 20, 5
			start := time.Now()
			allowed, denied := greet(t, s, 0, asked, f.at(7)), greet(t, s, 1, refused, f.at(7))
			sum := w.await(t, s, true, asked+refused)
			if most := 4 + time.Since(start).Seconds(); sum.denied != refused || sum.made < 3 || float64(sum.made) > most || sum.made+sum.limited != asked {
				t.Errorf("of %d flows that may be and %d that may not: %+v, want 3 to %.1f made", asked, refused, sum, most)
			}
			allowed(sum.made)
			denied(0)
			agent.Stop(syscall.SIGTERM)
		})
	}
}

// The tables and the program of IPv6 come and stay while IPv4 is in use.
func TestIPv6ComesWhileIPv4IsInUse(t *testing.T) {
	f := families[1]
	s := f.stage(t, testenv.RigOptions{})
	configure(s, "")
	s.Loader("attach").OK(t)
	account := s.Account()
	talk, err := s.Dial(0, vip+":80")
	if err != nil {
		t.Fatal(err)
	}
	stop := keepTalking(t, talk, "backend1")
	end := overAndOver(func() error {
		_, err := s.Get(0, web)
		return err
	})
	for range slow(3, 30) {
		configure(s, "  - {name: web6, listen: '"+f.at(80)+"', backends: "+f.backends(s, 8080)+", health: {type: none}}")
		s.Loader("attach").OK(t)
		if _, err := s.Get(0, web6); err != nil {
			t.Error(err)
		}
		configure(s, "")
		s.Loader("attach").OK(t)
	}
	if n, err := end(); err != nil || n == 0 {
		t.Errorf("%d connections, then: %v", n, err)
	}
	stop()
	closeAccount(t, account)
}

func TestUpgradesKeepIPv6Flows(t *testing.T) {
	f := families[1]
	s := f.stage(t, testenv.RigOptions{})
	f.configure(s, "", "")
	s.Loader("attach").OK(t)
	account := s.Account()
	talk, err := s.Dial(0, f.at(80))
	if err != nil {
		t.Fatal(err)
	}
	stop := keepTalking(t, talk, "backend1")
	end := overAndOver(func() error {
		_, err := s.Get(0, web6)
		return err
	})
	for range slow(10, 100) {
		s.Loader("attach").OK(t)
	}
	if n, err := end(); err != nil || n == 0 {
		t.Errorf("%d connections, then: %v", n, err)
	}
	stop()
	wantAllXDP(t, s, account)
}

func TestDetachLeavesNothingOfIPv6(t *testing.T) {
	f := families[1]
	f.vip = onLink
	s := f.stage(t, testenv.RigOptions{})
	f.configure(s, "", "  - {name: far, listen: '["+vip6+"]:80', backends: "+f.backends(s, 8080)+"}")
	s.Balancer.Sysctl(t, "net.ipv6.conf.all.forwarding", "0")
	s.Balancer.Sysctl(t, "net.ipv6.conf.client1.accept_ra", "1")
	before := hostState(t, s)
	if r := s.Loader("attach"); r.Code != 3 || !strings.Contains(r.Stderr, "sysctl -w net.ipv6.conf.client1.accept_ra=2 net.ipv6.conf.client1.forwarding=1") {
		t.Errorf("attach without forwarding: status %d\n%s", r.Code, r.Stderr)
	}
	s.Loader("attach", "--set-sysctl").OK(t)
	during := hostState(t, s)
	for _, want := range []string{
		"address " + onLink + "/128 on client1", "address " + vip6 + "/128 on lo",
		"ipv6/conf/backend1/forwarding 1", "ipv6/conf/client1/accept_ra 2",
	} {
		if !strings.Contains(during, want) {
			t.Errorf("attach made no %q:\n%s", want, during)
		}
	}
	if _, err := s.Get(0, f.web()); err != nil {
		t.Error(err)
	}
	s.Loader("detach").OK(t)
	if diff := cmp.Diff(before, hostState(t, s)); diff != "" {
		t.Errorf("detach left something behind (-before +after):\n%s", diff)
	}
}
