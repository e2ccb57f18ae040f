package daemon

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv"
	"fairlead/testenv/nameserver"
	"fairlead/userspace/view"
)

// backendsOf returns the addresses of the backends of the first service that stay.
func backendsOf(v view.View) string {
	text := ""
	for _, b := range v.Services[0].Backends {
		if b.Drains == nil {
			text += b.Address + " "
		}
	}
	return text
}

func TestAgentFollowsNamesOfHTTPBackends(t *testing.T) {
	a, _ := page(t, "a")
	port := netip.MustParseAddrPort(a).Port()
	s := nameserver.New(t, "127.0.0.1")
	r := runAgent(t, fmt.Sprintf("resolver: {servers: ['%s'], timeout: 5s, min-ttl: 100ms}\nservices: [{name: web, listen: '%s', forward: http, backends: [{url: 'http://app.test:%d/p'}]}]\n",
		s.Addr, site, port))
	if status, _ := fetch(t, "/x"); status != 503 {
		t.Errorf("status %d while the name has no address, want 503", status)
	}
	v := r.await("the view says which", func(v view.View) bool { return strings.HasPrefix(v.NameError, "look app.test up: ") })
	want := view.Backend{Address: fmt.Sprintf("app.test:%d", port), Name: "app.test", Weight: 1, Share: 100, LastError: v.NameError}
	if diff := cmp.Diff([]view.Backend{want}, v.Services[0].Backends); diff != "" {
		t.Errorf("backends of a name without addresses (-want +got):\n%s", diff)
	}
	s.Set(0, "app.test", nameserver.A("127.0.0.1"))
	r.await("the name has an address", func(v view.View) bool { return backendsOf(v) == a+" " && v.NameError == "" })
	if _, body := fetch(t, "/x"); body != "a /p/x" {
		t.Errorf("answer %q", body)
	}
	s.Set(0, "app.test", nameserver.A("127.0.0.1"), nameserver.A("127.0.0.2"))
	v = r.await("another comes", func(v view.View) bool { return len(v.Services[0].Backends) == 2 })
	if b := v.Services[0].Backends[1]; b.Address != fmt.Sprintf("127.0.0.2:%d", port) || b.Name != "app.test" {
		t.Errorf("backend %+v", b)
	}
	s.Fall(true)
	for asked := s.Asked(); s.Asked() < asked+4; time.Sleep(10 * time.Millisecond) {
		if v := r.await("a view", func(view.View) bool { return true }); len(v.Services[0].Backends) != 2 {
			t.Fatalf("backends %s after a failed look-up", backendsOf(v))
		}
	}
}

// TestWhoHasNoAddressIsListed has backends of names that nobody knows wherever some may
// be, beside others and alone.
func TestWhoHasNoAddressIsListed(t *testing.T) {
	a, _ := page(t, "a")
	s := nameserver.New(t, "127.0.0.1")
	r := runAgent(t, fmt.Sprintf(`resolver: {servers: ['%s'], timeout: 5s, min-ttl: 100ms}
services:
  - {name: web, listen: '%s', forward: http, routes: [{match: /x/, pool: both}, {match: /y/, pool: both}, {match: /, pool: alone}]}
  - {name: raw, listen: '%s', forward: proxy, backends: [{srv: _raw._tcp.app.test}]}
pools:
  both: {backends: [{address: 'app.test:81'}, {address: %q, weight: 2}]}
  alone: {backends: [{address: 'app.test:82'}]}
  spare: {backends: [{address: 'app.test:83', weight: 0}]}
`, s.Addr, site, testenv.FreeAddress(t), a))
	v := r.await("a view", func(view.View) bool { return true })
	var got []string
	list := func(name string, backends []view.Backend) {
		for _, b := range backends {
			got = append(got, fmt.Sprintf("%s %s %s of %d: %t", name, b.Pool, b.Address, b.Weight, strings.HasPrefix(b.LastError, "look ")))
		}
	}
	for _, s := range v.Services {
		list(s.Name, s.Backends)
	}
	for _, p := range v.Pools {
		list(p.Name, p.Backends)
	}
	want := []string{
		"web both " + a + " of 2: false", "web alone app.test:82 of 1: true", "web both app.test:81 of 1: true",
		"raw  _raw._tcp.app.test of 1: true", "spare spare app.test:83 of 0: true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("backends (-want +got):\n%s", diff)
	}
}

func TestAgentFollowsNamesInTheKernel(t *testing.T) {
	b := newBench(t, 3)
	b.greetAll()
	var s *nameserver.Server
	b.Balancer.Do(t, func() error {
		s = nameserver.New(t, "127.0.0.1")
		return nil
	})
	s.Set(0, "_http._tcp.app.test", nameserver.SRV("app.test", 8080, 1, 1))
	s.Set(0, "app.test", nameserver.A(b.BackendAddrs[0].String()))
	b.configure(b.interfaces(), fmt.Sprintf("resolver: {servers: ['%s'], timeout: 5s, min-ttl: 100ms}\nservices:\n", s.Addr),
		fmt.Sprintf("  - {name: web, listen: '%s:80', drain: 1h, backends: [{srv: _http._tcp.app.test}], health: {type: none}}\n", vip))
	b.start()
	defer b.stop()
	conn, backend := b.opened(80)
	if backend != 0 {
		t.Errorf("backend %d", backend)
	}
	s.Set(0, "app.test", nameserver.A(b.BackendAddrs[1].String()), nameserver.A(b.BackendAddrs[2].String()))
	v := b.seen("the others", func(v view.View) bool { return len(v.Services[0].Backends) == 3 })
	if v.Services[0].Backends[2].Drains == nil || v.Services[0].Rung == view.RungProxy {
		t.Errorf("service %+v, want one backend that drains, in the kernel", v.Services[0])
	}
	for range 4 {
		if _, backend := b.opened(80); backend == 0 {
			t.Error("a backend that leaves got a connection")
		}
	}
	if err := works(conn); err != nil {
		t.Errorf("the connection to the backend that drains: %v", err)
	}
	b.signal(syscall.SIGHUP) // which must not bring back what names have not any more
	b.logged("configuration taken")
	if got := backendsOf(b.seen("a view", func(view.View) bool { return true })); strings.Contains(got, b.BackendAddrs[0].String()) {
		t.Errorf("backends %s after a reload", got)
	}
}
