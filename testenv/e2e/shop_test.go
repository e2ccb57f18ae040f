package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"sync/atomic"
	"testing"

	"fairlead/testenv/stage"
	"fairlead/testenv/testca"
	"fairlead/userspace/view"
)

// What a shop is asked for: its servers by HTTP/1.1, and below two/ by HTTP/2.
const (
	shopName  = "shop.example.com"
	plainShop = "http://" + shopName + "/"
	tlsShop   = "https://" + shopName + "/"
)

// A shop is a stage whose agent forwards HTTP, with TLS and without, to servers of
// the test itself. They count what they are asked.
type shop struct {
	*stage.Stage
	agent *stage.Process
	ca    *testca.CA
	asked atomic.Int64 // requests that the servers have got

	goOn, gone chan struct{} // of streams of events
}

// openShop opens a shop, in front of which XDP runs or not.
func openShop(t *testing.T, xdp bool) *shop {
	t.Helper()
	s := &shop{
		Stage: stage.New(t, stage.Options{Programs: programs}), ca: testca.New(t),
		goOn: make(chan struct{}), gone: make(chan struct{}),
	}
	for _, b := range s.Backends {
		s.serve(t, b.Listen(t, "tcp", ":8080"))
	}
	top := "xdp: off"
	if xdp {
		top = "interfaces: " + s.Links()
	}
	cert, key := s.ca.Issue(testca.Leaf{Names: []string{shopName}})
	const how = "routes: [{match: /, pool: one}, {match: /two/, pool: two}], timeouts: {keep-alive: 1h}"
	s.Configure(`
%s
services:
  - {name: plain, listen: %s:80, forward: http, %s}
  - {name: secure, listen: %[2]s:443, forward: http, %[3]s, tls: {certificates: [{cert: %s, key: %s}]}}
pools:
  one: {backends: %s, health: {type: none}}
  two: {backends: %[6]s, health: {type: none}, http2: true}
`, top, vip, how, cert, key, s.BackendList(8080))
	s.agent = s.StartAgent()
	return s
}

// serve lets a server of the shop serve.
func (s *shop) serve(t *testing.T, l net.Listener) {
	server := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		switch path.Base(r.URL.Path) {
		case "echo":
			echo(w, r)
		case "events":
			s.events(w, r)
		case "chat":
			chat(w, r)
		case "many":
			many(w, r)
		default:
			fmt.Fprint(w, "hello\n")
		}
	})}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // until it is closed
	}()
	t.Cleanup(func() {
		server.Close()
		<-ended
	})
}

// echo answers with what comes, and says in trailers what that adds up to and what
// the trailer of the request was.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum, X-Ended")
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 needs no leave
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, sum), r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Sum", hex.EncodeToString(sum.Sum(nil)))
	w.Header().Set("X-Ended", r.Trailer.Get("X-End"))
}

// client returns a client of the shop's in the rig that speaks just one protocol.
func (s *shop) client(t *testing.T, set func(*http.Protocols)) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), DialContext: s.dial, TLSClientConfig: &tls.Config{RootCAs: s.ca.Pool()}}
	set(transport.Protocols)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// dial connects the rig's client to a port of the shop.
func (s *shop) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return s.Clients[0].DialContext(ctx, network, net.JoinHostPort(vip, port))
}

// run runs a program as the rig's client, to which the shop's name is known, and
// returns what it prints.
func (s *shop) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	return s.Run(s.Clients[0], tool(t, name), args...).OK(t)
}

// counts asserts that the servers get so many requests, and no more, until the
// function that it returns is called.
func (s *shop) counts(t *testing.T, want int) func() {
	before := s.asked.Load()
	return func() {
		t.Helper()
		if got := s.asked.Load() - before; got != int64(want) {
			t.Errorf("the servers got %d requests, want %d", got, want)
		}
	}
}

// settle asserts that the agent has answered all that the servers were asked, but
// for so many answers that their clients have left, and sent nothing twice.
func (s *shop) settle(t *testing.T, left uint64) {
	t.Helper()
	want := uint64(s.asked.Load())
	v := s.AwaitView("all to be answered", func(v *view.View) bool {
		h := &v.Proxy.HTTP
		return h.Answers.Good+uint64(v.Proxy.HTTP.Tunnels) >= want && h.Running == 0
	})
	h := v.Proxy.HTTP
	if h.Requests != want || h.Answers.Good+h.Tunnels != want || h.Broken != left || h.Retries+h.NoBackend+h.Malformed != 0 {
		t.Errorf("the agent counts %+v, the servers %d requests", h, want)
	}
}
