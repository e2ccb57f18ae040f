package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/livegen"
	"fairlead/testenv/stage"
)

// greeting is what the servers of service greet say before the client does.
const greeting = "220 fairlead\n"

// A client that waits for a greeting waits in vain if its answer to the cookie is
// lost: nobody knows of it but itself. That is one of a hundred where one of a
// hundred packets is lost. All others must be served.
func TestSYNCookies(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		t.Run("no loss", func(t *testing.T) { shielded{family: f, loss: 0, mostSilent: 1}.run(t) })
		if f.suffix == "6" && slow(1, 0) == 1 {
			return // the same once more, for 20 s
		}
		t.Run("1 % loss", func(t *testing.T) { shielded{family: f, loss: 1, mostSilent: 5}.run(t) })
	})
}

// A shielded pair of services is flooded while clients connect to both.
type shielded struct {
	family
	loss       int // of a hundred packets of a client, each way
	mostSilent int // of a hundred connections that wait for a greeting
}

func (f shielded) run(t *testing.T) {
	s := f.raise(t)
	account := s.Account()
	viaXDP := f.talk(t, s)
	if n := proxied(t, s); n != 0 {
		t.Errorf("the proxy has %d connections before the flood", n)
	}
	before := tallyOf(t, s)
	stops := []func() livegen.Result{f.floodSYNs(t, s, 0, 80), f.floodSYNs(t, s, 1, 25)}
	awaitCookies(t, s, 2)
	viaCookie := f.talk(t, s)
	for range 5 {
		s.Run(s.Clients[2], tool(t, "curl"), "--silent", "--show-error", "--fail", f.web()).OK(t)
	}
	made := f.connect(t, s)
	f.comeAgain(t, s)
	for _, stop := range stops {
		stop()
	}
	t.Logf("%s", tallyOf(t, s).sub(before))
	if n := proxied(t, s); n < uint64(made/2) {
		t.Errorf("the proxy has accepted %d connections, want most of %d", n, made)
	}
	stage.Await(t, "flows to be made again", func() error {
		flows := s.Stats().Forwarded.Flows
		if _, err := s.Get(2, f.web()); err != nil {
			return err
		}
		if s.Stats().Forwarded.Flows == flows {
			return errors.New("the proxy has answered")
		}
		return nil
	})
	f.knock(t, s, viaCookie)
	for name, talk := range map[string]*stage.Talk{"the flood": viaXDP, "its end": viaCookie} {
		if _, err := talk.Ask(); err != nil {
			t.Errorf("a connection that is older than %s is broken: %v", name, err)
		}
		talk.Close()
	}
	t.Logf("%+v", account.Close())
	wantSound(t, s)
}

// raise raises a stage with an agent and services web and greet, which take 200
// SYNs a second.
func (f shielded) raise(t *testing.T) *stage.Stage {
	t.Helper()
	// CPUs that share a queue of a veth lose count of what it refuses.
	s := f.stage(t, testenv.RigOptions{Clients: 3, Cable: []testenv.CableOption{testenv.Queues(runtime.NumCPU())}})
	s.Balancer.Route(t, s.ClientLinks[0], f.forged(), f.addr(s.ClientAddrs[0]))
	s.Balancer.Sysctl(t, "net.ipv4.tcp_syncookies", "2")
	for _, h := range s.Backends {
		go greetAll(h.Listen(t, "tcp"+f.suffix, f.wild(2525)))
	}
	s.Configure(`
interfaces: %s
services:
  - {name: web, listen: '%s', backends: %s, health: {type: none}, syn-cookies: {above: 200}}
  - {name: greet, listen: '%s', backends: %s, health: {type: none}, syn-cookies: {above: 200}}
`, s.Links(), f.at(80), f.backends(s, 8080), f.at(25), f.backends(s, 2525))
	s.StartAgent()
	stage.Await(t, "the proxies to stand by", func() error {
		for _, r := range s.ServiceRows() {
			if !r.SYNCookies.Standby {
				return fmt.Errorf("service %s has none", r.Name)
			}
		}
		return nil
	})
	if f.loss > 0 {
		f.lose(t, s, s.Clients[2])
	}
	return s
}

// greetAll greets everybody who connects to l.
func greetAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, greeting) // a client that is gone shows as a failed connection
		c.Close()
	}
}

// lose lets a host lose so many of the packets that it sends, and of those that
// it gets.
func (f shielded) lose(t *testing.T, s *stage.Stage, h *testenv.Host) {
	t.Helper()
	cmd := s.Command(tool(t, "nft"), "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`table inet loss {
	chain in { type filter hook prerouting priority 0; numgen random mod 100 < %d drop; }
	chain out { type filter hook postrouting priority 0; numgen random mod 100 < %[1]d drop; }
}`, f.loss))
	s.RunCommand(h, cmd).OK(t)
}

// talk opens a connection to service web.
func (f shielded) talk(t *testing.T, s *stage.Stage) *stage.Talk {
	t.Helper()
	talk, err := s.Dial(2, f.at(80))
	if err == nil {
		_, err = talk.Ask()
	}
	if err != nil {
		t.Fatal(err)
	}
	return talk
}

// knock sends a SYN with the tuple of a connection of the proxy's, in its client's
// name: the stack is to answer, not a backend.
func (f shielded) knock(t *testing.T, s *stage.Stage, talk *stage.Talk) {
	t.Helper()
	own, before := s.ClientAddrs[2], s.Stats().Verdicts
	s.Clients[2].Inject(t, testenv.Uplink, testenv.TCPFrame(testenv.FrameSpec{
		SrcMAC: testenv.MAC(own), DstMAC: testenv.MAC(own.Prev()), Flags: testenv.SYN,
		Src: talk.LocalAddr().(*net.TCPAddr).AddrPort(), Dst: netip.MustParseAddrPort(f.at(80)),
	}))
	stage.Await(t, "the SYN to pass", func() error {
		if n := s.Stats().Verdicts; n["pass_standby"] != before["pass_standby"]+1 {
			return fmt.Errorf("verdicts are %v, and were %v", n, before)
		}
		return nil
	})
}

// awaitCookies waits until n services answer SYNs with cookies.
func awaitCookies(t *testing.T, s *stage.Stage, n int) {
	t.Helper()
	inst, err := loader.Open(s.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close()
	stage.Await(t, "SYN cookies", func() error {
		rows, err := loader.ReadArray[loader.LBSyns](inst.Maps().Syns)
		rows = slices.DeleteFunc(rows, func(r loader.LBSyns) bool { return r.Count < 1000 })
		if err == nil && len(rows) < n {
			err = fmt.Errorf("only %v have been flooded", rows)
		}
		return err
	})
}

// proxied is how many connections the proxy has had.
func proxied(t *testing.T, s *stage.Stage) uint64 {
	t.Helper()
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	return v.Proxy.TCP.Accepted
}

// connect opens connections to both services, and returns how many. Each must
// be answered soon, but for those that may be lost.
func (f shielded) connect(t *testing.T, s *stage.Stage) int {
	t.Helper()
	h, lasts := s.Clients[2], time.Duration(slow(2, 10))*time.Second
	each := int(lasts.Seconds()) * slow(50, 100)
	asked, greeted := make([]error, each), make([]error, each)
	var wg sync.WaitGroup
	tick := time.NewTicker(lasts / time.Duration(each))
	defer tick.Stop()
	for i := range each {
		<-tick.C
		wg.Go(func() { asked[i] = f.askSoon(h) })
		wg.Go(func() { greeted[i] = f.hearSoon(h, 0) })
	}
	wg.Wait()
	for name, of := range map[string]struct {
		errs []error
		most int
	}{"web": {asked, 1}, "greet": {greeted, f.mostSilent}} {
		fails := slices.DeleteFunc(of.errs, func(err error) bool { return err == nil })
		t.Logf("service %s: %d of %d connections had no answer within %s", name, len(fails), each, soon)
		if 100*len(fails) > of.most*each {
			t.Errorf("service %s: more than %d %%: %v", name, of.most, errors.Join(fails...))
		}
	}
	return 2 * each
}

// comeAgain lets a client use a port again that the host remembers a connection
// of, as who closes first does.
func (f shielded) comeAgain(t *testing.T, s *stage.Stage) {
	t.Helper()
	if f.loss > 0 {
		return
	}
	for range 5 {
		stage.Await(t, "the client to let go of its port", func() error {
			err := f.hearSoon(s.Clients[2], 20000)
			if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
				t.Fatalf("from one port again: %v", err)
			}
			return err
		})
	}
}

// hearSoon opens a connection from a port (0: any) to hear the greeting.
func (f family) hearSoon(h *testenv.Host, port int) error {
	ctx, cancel := context.WithTimeout(context.Background(), min(soon, 15*time.Second))
	defer cancel()
	var c net.Conn
	err := h.In(func() (err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}}
		c, err = d.DialContext(ctx, "tcp", f.at(25))
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	heard, err := io.ReadAll(c) // to the end, so that the server closes first
	if err == nil && string(heard) != greeting {
		err = fmt.Errorf("heard %q", heard)
	}
	return err
}

// The stack throws such SYNs away, and makes no cookie of the one a second that it
// gets. It must take those of XDP nevertheless.
func TestSYNCookiesInAFloodOfWrongChecksums(t *testing.T) {
	f := shielded{family: families[0]}
	s := f.raise(t)
	own := s.ClientAddrs[0]
	frames := make([][]byte, 1<<12)
	for i := range frames {
		frames[i] = testenv.TCPFrame(testenv.FrameSpec{
			SrcMAC: testenv.MAC(own), DstMAC: testenv.MAC(own.Prev()), Flags: testenv.SYN,
			Src: netip.AddrPortFrom(f.forged().Addr(), uint16(i+1)), Dst: netip.MustParseAddrPort(vip + ":80"),
		})
		frames[i][51] ^= 1
	}
	end := overAndOver(func() error {
		s.Clients[0].Inject(t, testenv.Uplink, frames...)
		return nil
	})
	awaitCookies(t, s, 1)
	errs := make([]error, 50)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = f.askSoon(s.Clients[2]) })
	}
	wg.Wait()
	if _, err := end(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	stage.Await(t, "the proxy to have accepted most", func() error {
		if n := proxied(t, s); n < uint64(len(errs)/2) {
			return fmt.Errorf("it has %d of %d", n, len(errs))
		}
		return nil
	})
}

// TestSYNCookiesThatCannotWork changes nothing.
func TestSYNCookiesThatCannotWork(t *testing.T) {
	s := newStage(t, testenv.RigOptions{Backends: 1})
	s.Configure("interfaces: %s\nservices: [{name: web, listen: %s:80, backends: %s, syn-cookies: {above: 200}}]", s.Links(), vip, s.BackendList(8080))
	const want = "syn-cookies: net.ipv4.tcp_syncookies is 1, with which the kernel does not take the cookies of XDP: run: sysctl -w net.ipv4.tcp_syncookies=2"
	r := s.Fairlead("run")
	if r.Code != 3 || !strings.Contains(r.Stderr, want) {
		t.Errorf("exit status %d, want 3 and %q:\n%s", r.Code, want, r.Stderr)
	}
	if r := s.Loader("status"); !strings.Contains(r.Stdout, "instance  none") {
		t.Errorf("something is attached:\n%s", r.Stdout)
	}
	if r := s.Fairlead("check"); !strings.Contains(r.Stderr, want) {
		t.Errorf("check says nothing of it:\n%s", r.Stderr)
	}
	s.Loader("attach").OK(t) // without an agent there are none
	wantStandby := func(want bool) {
		t.Helper()
		stage.Await(t, fmt.Sprintf("standby to be %t", want), func() error {
			if got := s.ServiceRows()[0].SYNCookies.Standby; got != want {
				return fmt.Errorf("it is %t", got)
			}
			return nil
		})
	}
	wantStandby(false)
	s.Balancer.Sysctl(t, "net.ipv4.tcp_syncookies", "2")
	agent := s.StartAgent()
	wantStandby(true)
	agent.Stop(syscall.SIGTERM)
	wantStandby(false)
}
