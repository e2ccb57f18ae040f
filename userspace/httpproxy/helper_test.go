package httpproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/userspace/balance"
	"fairlead/userspace/model"
)

// patience is how long tests wait for what must happen.
const patience = 20 * time.Second

var usual = model.HTTPTimeouts{Connect: patience, FirstByte: patience, Idle: patience}

// A front is a proxy that serves on loopback.
type front struct {
	*Proxy
	t     *testing.T
	addr  string
	pools map[string]*Pool
	cache Cache
	stop  context.CancelFunc
	ended chan error
}

// poolOf returns a pool of backends at these addresses, or URLs, that tries again
// but ejects nobody.
func poolOf(backends ...string) *model.Pool {
	p := &model.Pool{Retry: model.Retry{Attempts: 2, Budget: 100}}
	p.Balance.Method = model.RoundRobin
	for _, at := range backends {
		b := model.Backend{Weight: 1}
		at, b.Origin.TLS = strings.CutPrefix(strings.TrimPrefix(at, "http://"), "https://")
		at, prefix, _ := strings.Cut(at, "/")
		if prefix != "" {
			b.Origin.Prefix = "/" + prefix
		}
		b.Address = netip.MustParseAddrPort(at)
		p.Backends = append(p.Backends, b)
	}
	return p
}

// update gives a pool another configuration, with the backends down that are.
func update(p *Pool, conf *model.Pool, down ...bool) {
	p.Update(conf, balance.NewChooser(&conf.Service, balance.DutiesOf(&conf.Service, down, nil), nil))
}

// serve opens a front whose routes lead to these pools.
func serve(t *testing.T, h *model.HTTP, pools map[string]*model.Pool) *front {
	t.Helper()
	return serveWith(t, &Proxy{}, h, pools)
}

// serveWith is serve with a proxy that is more than its zero value.
func serveWith(t *testing.T, p *Proxy, h *model.HTTP, pools map[string]*model.Pool) *front {
	t.Helper()
	made := map[string]*Pool{}
	for name, conf := range pools {
		made[name] = NewPool(nil)
		update(made[name], conf)
	}
	return start(t, p, made, h)
}

// start has a proxy serve.
func start(t *testing.T, p *Proxy, pools map[string]*Pool, h *model.HTTP) *front {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	f := &front{Proxy: p, t: t, addr: l.Addr().String(), pools: pools, stop: stop, ended: make(chan error, 1)}
	f.route(h)
	go func() { f.ended <- f.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		f.await()
		for _, p := range f.pools {
			p.Close()
		}
	})
	return f
}

// await waits until Serve has returned.
func (f *front) await() {
	f.t.Helper()
	select {
	case err := <-f.ended:
		if !errors.Is(err, context.Canceled) {
			f.t.Errorf("Serve returned %v", err)
		}
		f.ended <- err
	case <-time.After(patience):
		f.t.Error("Serve does not end")
	}
}

// route makes h the front's routes.
func (f *front) route(h *model.HTTP) {
	f.t.Helper()
	table, err := NewTable(h, func(name string) *Pool { return f.pools[name] }, f.cache)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Use(table)
}

// one opens a front for one pool that gets everything.
func one(t *testing.T, p *model.Pool) *front {
	t.Helper()
	return serve(t, everything(usual), map[string]*model.Pool{"main": p})
}

// everything leads to pool main.
func everything(t model.HTTPTimeouts) *model.HTTP {
	return &model.HTTP{Routes: []model.Route{{Match: "/", Pools: []model.Share{{Pool: "main", Weight: 1}}, Timeouts: t}}}
}

// ask sends a request, as it is, over a connection of its own, and returns the
// first answer that is final.
func (f *front) ask(request string) (*http.Response, string) {
	f.t.Helper()
	c, r := f.dial()
	if _, err := io.WriteString(c, request); err != nil {
		f.t.Fatal(err)
	}
	return answerOf(f.t, r, strings.HasPrefix(request, "HEAD"))
}

// dial opens a connection to the front.
func (f *front) dial() (*net.TCPConn, *bufio.Reader) {
	f.t.Helper()
	c, err := net.Dial("tcp4", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn), bufio.NewReader(c)
}

func answerOf(t *testing.T, r *bufio.Reader, head bool) (*http.Response, string) {
	t.Helper()
	method := http.MethodGet
	if head {
		method = http.MethodHead
	}
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// get sends a plain request for a path and returns status and body.
func (f *front) get(path string, headers ...string) (int, string) {
	f.t.Helper()
	res, body := f.ask("GET " + path + " HTTP/1.1\r\nHost: example.com\r\n" + strings.Join(headers, "") + "Connection: close\r\n\r\n")
	return res.StatusCode, body
}

// A taker is a backend that keeps the bytes of each request and answers what it
// is told to.
type taker struct {
	net.Listener
	mu       sync.Mutex
	requests []string
}

// take opens a taker. answer gets what is asked for, and the connection; if it
// returns "" the connection is closed.
func take(t *testing.T, answer func(request string, c net.Conn) string) *taker {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &taker{Listener: l}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				stop := context.AfterFunc(t.Context(), func() { c.Close() })
				defer stop()
				defer c.Close()
				b.talk(c, answer)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return b
}

func (b *taker) talk(c net.Conn, answer func(string, net.Conn) string) {
	r := bufio.NewReader(c)
	for {
		var head strings.Builder
		for !strings.HasSuffix(head.String(), "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
		}
		b.mu.Lock()
		b.requests = append(b.requests, head.String())
		b.mu.Unlock()
		reply := answer(head.String(), c)
		if _, err := io.WriteString(c, reply); err != nil || reply == "" {
			return
		}
	}
}

// seen returns the heads of all requests so far.
func (b *taker) seen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.requests...)
}

func (b *taker) addr() string { return b.Addr().String() }

func say(text string) func(string, net.Conn) string {
	return func(string, net.Conn) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	}
}

// names opens a backend that answers with its name.
func names(t *testing.T, name string) string {
	return handle(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) })
}

// handle opens a backend on net/http.
func handle(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// eventually waits until a condition holds.
var eventually = testenv.Await

func readAll(t *testing.T, r *http.Request) string {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}
