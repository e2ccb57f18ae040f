package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fairlead/client"
	"fairlead/register"
	"fairlead/testenv/testca"
	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/admin/adminpb/adminpbconnect"
)

// Where agents are called over TLS, and where what has registered serves.
const (
	adminPort = 20210 + iota
	sitePort
	latePort
)

// A lobby is a supervised agent that is called over TLS, and where backends register.
type lobby struct {
	*supervisor
	t   *testing.T
	tls client.TLS
}

func newLobby(t *testing.T) *lobby {
	t.Helper()
	l := &lobby{supervisor: supervised(t, 20*time.Second), t: t}
	ca := testca.New(t)
	cert, key := ca.Issue(testca.Leaf{Names: []string{loopback.String(), "ops.example"}})
	l.tls = client.TLS{Cert: cert, Key: key, CA: ca.File}
	l.configure(fmt.Sprintf(`admin: {listen: '%s', cert: %s, key: %s, client-ca: %s, certificates: [ops.example]}
registration: {listen: '%s', tokens: [{token: %s, pool: main, networks: [127.0.0.0/8]}]}
pools:
  main: {backends: []}
  late: {backends: [{address: '127.0.0.1:1'}], health: {type: http, path: /late, interval: 20s, timeout: 20s}}
%s  - {name: site, listen: '%s', forward: http, routes: [{match: /late, pool: late}, {match: /, pool: main}]}
`, at(adminPort), cert, key, ca.File, registerAt, secret, l.good, at(sitePort)))
	l.awaitEnd(l.reload())
	return l
}

// calls returns a client over TLS.
func (l *lobby) calls() *client.Client {
	l.t.Helper()
	c, err := client.New(at(adminPort), l.tls)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(c.Close)
	return c
}

// pool returns the backends of a pool, by their addresses.
func (l *lobby) pool(c *client.Client, name string) (all []string, err error) {
	health, err := c.GetHealth(l.t.Context(), &adminpb.GetHealthRequest{Pool: name})
	if err != nil {
		return nil, err
	}
	for _, b := range health.GetPools()[0].GetBackends() {
		all = append(all, b.GetAddress())
	}
	return all, nil
}

// visit returns what asks over TLS for the health of a pool, over connections that stay
// or not.
func (l *lobby) visit(stay bool) func() error {
	c := l.calls()
	return func() error {
		if !stay {
			c.Close()
		}
		all, err := l.pool(c, "main")
		if err == nil && len(all) != 1 {
			err = fmt.Errorf("the pool has %q", all)
		}
		return err
	}
}

// keep registers a backend until stop is called, which has it fall silent. No sign of
// life may fail. It returns when the last one that was answered was sent.
func (l *lobby) keep(address string, ttl time.Duration) (stop func() time.Time) {
	l.t.Helper()
	ctx, silence := context.WithCancel(context.WithoutCancel(l.t.Context()))
	line := &signs{next: &http.Transport{DisableKeepAlives: true}}
	ended := make(chan error, 1)
	go func() {
		ended <- register.Keep(ctx, register.Options{
			URL: "http://" + registerAt, Token: secret, Address: address, TTL: ttl,
			Client: &http.Client{Transport: line}, Failed: func(err error) { l.t.Errorf("a sign of life: %v", err) },
		})
	}()
	await(l.t, "the registration", func() bool { return line.last.Load() != nil })
	return func() time.Time {
		l.t.Helper()
		line.cut.Store(true)
		silence()
		if err := <-ended; err != nil {
			l.t.Error(err)
		}
		return *line.last.Load()
	}
}

// signs are those of life that a backend gives.
type signs struct {
	next http.RoundTripper
	last atomic.Pointer[time.Time] // when the last one was sent that was answered
	// cut says that what is sent from now on is lost, though the backend cannot tell.
	cut atomic.Bool
}

func (s *signs) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.cut.Load() {
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
	}
	sent := time.Now()
	res, err := s.next.RoundTrip(r)
	if err == nil {
		s.last.Store(&sent)
	}
	return res, err
}

// TestNobodyIsTurnedAwayFromTheDoors has one process after the other take over while
// others call over TLS, and while a backend that has registered serves. It goes when it is
// silent, and not before.
func TestNobodyIsTurnedAwayFromTheDoors(t *testing.T) {
	l := newLobby(t)
	backend, _ := page(t, "a")
	const ttl = 5 * time.Second
	silence := l.keep(backend, ttl)
	await(t, "the backend to serve", func() bool { return visitSite(t, at(sitePort), false)() == nil })
	await(t, "the backend to be seen", func() bool { return l.visit(false)() == nil })
	stop := visitors(t, l.visit(true), l.visit(false), visitSite(t, at(sitePort), true), visitSite(t, at(sitePort), false))
	for range repeats {
		l.awaitEnd(l.reload())
	}
	if came := stop(); came < 10 {
		t.Errorf("%d visits", came)
	}
	last, c := silence(), l.calls()
	await(t, "the backend to be gone", func() bool {
		all, err := l.pool(c, "main")
		if err != nil {
			t.Fatal(err)
		}
		return len(all) == 0
	})
	if took := time.Since(last); took < ttl {
		t.Errorf("a silent backend is gone after %v, want %v", took, ttl)
	}
	l.stop()
}

// held has a process get a successor while a request to it has not come to its end, which
// it does when release is called.
func (l *lobby) held() (release func()) {
	l.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(l.opts.RunDir, adminSocket))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	const request = "POST " + adminpbconnect.AdminGetStatusProcedure + " HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		l.t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil { // it waits for the rest
		l.t.Fatal(err)
	}
	was := l.pid()
	l.signal(syscall.SIGUSR2)
	await(l.t, "a successor", func() bool { return l.pid() != was })
	return func() {
		l.t.Helper()
		conn.Close()
		l.awaitEnd(was)
	}
}

// TestSignsOfLifeAreTheSuccessors has a backend go on over the connection that it has with
// a process whose successor serves.
func TestSignsOfLifeAreTheSuccessors(t *testing.T) {
	l := newLobby(t)
	backend, _ := page(t, "a")
	const ttl = 3 * time.Second // and calls have five
	ctx, leave := context.WithCancel(t.Context())
	kept, line := make(chan error, 1), &http.Transport{}
	go func() {
		kept <- register.Keep(ctx, register.Options{URL: "http://" + registerAt, Token: secret, Address: backend, TTL: ttl, Client: &http.Client{Transport: line}})
	}()
	c := l.calls()
	await(t, "the backend", func() bool { all, err := l.pool(c, "main"); return err == nil && len(all) == 1 })
	release := l.held()
	came := time.Now()
	await(t, "signs of life", func() bool { return time.Since(came) > ttl+ttl/2 })
	history, err := l.calls().ListHistory(t.Context(), &adminpb.ListHistoryRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range history.GetRevisions() {
		if strings.Contains(r.GetWho(), "silent") {
			t.Errorf("revision %d, by %s", r.GetRevision(), r.GetWho())
		}
	}
	release()
	leave()
	if err := <-kept; err != nil {
		t.Error(err)
	}
	line.CloseIdleConnections()
	l.stop()
}

// TestNothingNewComesToAProcessWithASuccessor has that take a backend away.
func TestNothingNewComesToAProcessWithASuccessor(t *testing.T) {
	l := newLobby(t)
	stays, _ := page(t, "stays")
	var late atomic.Int64
	gone := httpServer(t, func(http.ResponseWriter, *http.Request) { late.Add(1) })
	for _, b := range []string{stays, gone} {
		if _, err := l.calls().AddBackend(t.Context(), &adminpb.AddBackendRequest{Pool: "main", Backend: b}); err != nil {
			t.Fatal(err)
		}
	}
	release := l.held()
	if _, err := l.calls().RemoveBackend(t.Context(), &adminpb.RemoveBackendRequest{Pool: "main", Backend: gone}); err != nil {
		t.Fatal(err)
	}
	before, visit := late.Load(), visitSite(t, at(sitePort), false)
	for range 200 {
		if err := visit(); err != nil {
			t.Fatal(err)
		}
	}
	if n := late.Load() - before; n != 0 {
		t.Errorf("%d of 200 requests came to a backend that had gone", n)
	}
	release()
	l.stop()
}

// TestCallsUnderWayAreAnswered has a process get a successor while it looks at a new
// backend: it says at once that it changes nothing any more, and its successor does.
func TestCallsUnderWayAreAnswered(t *testing.T) {
	l := newLobby(t)
	probed, answer := make(chan struct{}, 1), make(chan struct{})
	late := httpServer(t, func(http.ResponseWriter, *http.Request) {
		select {
		case probed <- struct{}{}:
			<-answer
		default:
		}
	})
	c := l.calls()
	added := make(chan error, 1)
	go func() {
		_, err := c.AddBackend(t.Context(), &adminpb.AddBackendRequest{Pool: "late", Backend: late})
		added <- err
	}()
	<-probed
	was := l.pid()
	l.signal(syscall.SIGUSR2)
	await(t, "a successor", func() bool { return l.pid() != was })
	err := <-added
	close(answer)
	if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "takes no changes now") {
		t.Errorf("a call under way: %v", err)
	}
	l.awaitEnd(was)
	if all, err := l.pool(c, "late"); err != nil || slices.Contains(all, late) {
		t.Errorf("the successor has %q, %v", all, err)
	}
	if _, err := c.AddBackend(t.Context(), &adminpb.AddBackendRequest{Pool: "late", Backend: late}); err != nil {
		t.Errorf("the call again: %v", err)
	}
	l.stop()
}

// TestServicesAddedMeanwhileAreHandedOver adds a service while a successor has the sockets
// of before.
func TestServicesAddedMeanwhileAreHandedOver(t *testing.T) {
	l := newLobby(t)
	backend, _ := page(t, "a")
	c, was := l.calls(), l.pid()
	spec := fmt.Sprintf("{listen: '%s', forward: http, backends: [{address: '%s'}]}", at(latePort), backend)
	release := l.hold(stepPrepared)
	if _, err := c.AddService(t.Context(), &adminpb.AddServiceRequest{Service: "added", Spec: spec}); err != nil {
		t.Fatal(err)
	}
	release()
	await(t, "a successor", func() bool { return l.pid() != was })
	l.awaitEnd(was)
	if err := visitSite(t, at(latePort), false)(); err != nil {
		t.Error(err)
	}
	l.stop()
}
