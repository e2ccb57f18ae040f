package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/userspace/view"
)

// A running agent without XDP, whose services are on loopback.
type running struct {
	t     *testing.T
	opts  Options
	stop  context.CancelFunc
	ended chan error
}

// runAgent starts an agent that ends with the test.
func runAgent(t *testing.T, config string) *running {
	t.Helper()
	return runAgentWith(t, config, func(*Options) {})
}

// runAgentWith is runAgent with other options.
func runAgentWith(t *testing.T, config string, set func(*Options)) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{t: t, ended: make(chan error, 1), opts: Options{
		Config: filepath.Join(dir, "fairlead.yaml"), RunDir: filepath.Join(dir, "run"), PinDir: filepath.Join(dir, "pins"),
		Grace: 20 * time.Second, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
	set(&r.opts)
	r.write(config)
	r.start()
	t.Cleanup(r.end)
	return r
}

func (r *running) start() {
	r.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(r.t.Context()))
	r.stop = stop
	go func() { r.ended <- Run(ctx, r.opts) }()
	r.await("the agent serves", func(v view.View) bool { return true })
}

// end stops the agent and waits for it.
func (r *running) end() {
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Error(err)
	}
}

func (r *running) write(config string) {
	r.t.Helper()
	if err := os.WriteFile(r.opts.Config, []byte("xdp: off\n"+config), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// reload puts another configuration in force.
func (r *running) reload(config string) {
	r.t.Helper()
	r.write(config)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		r.t.Fatal(err)
	}
}

// await waits until the agent's view is as ok wants it.
func (r *running) await(what string, ok func(view.View) bool) (v view.View) {
	r.t.Helper()
	testenv.AwaitNil(r.t, what, func() (err error) {
		select {
		case err := <-r.ended:
			r.ended <- err
			r.t.Fatalf("%s: the agent has ended: %v", what, err)
		default:
		}
		if v, err = view.Read(r.opts.RunDir); err == nil && !ok(v) {
			err = fmt.Errorf("view %+v", v)
		}
		return err
	})
	return v
}

// site is where HTTP services of these tests listen.
var site = netip.AddrPortFrom(loopback, 20180).String()

// fetch asks the site for a path, over a connection of its own.
func fetch(t *testing.T, path string) (status int, body string) {
	t.Helper()
	return fetchAt(t, site, path)
}

// fetchAt is fetch of another address and port.
func fetchAt(t *testing.T, host, path string) (status int, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	res, err := client.Get("http://" + host + path)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(text)
}

// page opens a backend that answers with its name, and fails its checks while it
// is sick.
func page(t *testing.T, name string) (addr string, sick *atomic.Bool) {
	sick = new(atomic.Bool)
	return httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" && sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, name, " ", r.RequestURI)
	}), sick
}

// httpServer opens a backend and returns its address.
func httpServer(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// quickHealth sees soon that a backend is sick, and does not take two processors with
// much to do for that. patientHealth is for where nobody ever is.
const (
	quickHealth   = "health: {type: http, path: /health, status: 200, interval: 1s, timeout: 1s, fast-interval: 50ms, rise: 1, fall: 2}"
	patientHealth = "health: {type: http, path: /health, status: 200, interval: 20s, timeout: 20s}"
)

func routed(images, first, second string) string {
	return fmt.Sprintf(`services:
  - name: web
    listen: %s
    forward: http
    routes: [{match: /images/, pool: images}, {match: /, pool: main}]
pools:
  images: {backends: [{url: "http://%s/static"}], %s}
  main: {backends: [{address: %q}, {address: %q}], %s}
`, site, images, quickHealth, first, second, quickHealth)
}

func TestAgentServesHTTP(t *testing.T) {
	images, _ := page(t, "images")
	first, sick := page(t, "first")
	second, _ := page(t, "second")
	r := runAgent(t, routed(images, first, second))
	if _, body := fetch(t, "/images//a%2Fb?q"); body != "images /static/images//a%2Fb?q" {
		t.Errorf("answer %q", body)
	}
	seen := map[string]bool{}
	for range 4 {
		_, body := fetch(t, "/x")
		seen[body] = true
	}
	if !seen["first /x"] || !seen["second /x"] {
		t.Errorf("answers of %v", seen)
	}
	v := r.await("five requests count", func(v view.View) bool { return v.Proxy.HTTP.Answers.Good == 5 })
	s := v.Services[0]
	if s.Rung != view.RungHTTP || !s.Standby || len(s.Backends) != 3 || s.Backends[0].Pool != "images" || s.Backends[1].Pool != "main" {
		t.Errorf("service %+v", s)
	}
	sick.Store(true)
	r.await("the first is down", func(v view.View) bool { return !v.Services[0].Backends[1].Up })
	for range 4 {
		if status, body := fetch(t, "/x"); status != 200 || body != "second /x" {
			t.Errorf("%d %q while the first is down", status, body)
		}
	}
	sick.Store(false)
	r.await("the first is up", func(v view.View) bool { return v.Services[0].Backends[1].Up })
}

func TestAgentFollowsRulesOfRoutes(t *testing.T) {
	main, _ := page(t, "main")
	copies, _ := page(t, "copies")
	file := filepath.Join(t.TempDir(), "none.html")
	config := func() string {
		return fmt.Sprintf(`services:
  - name: web
    listen: %s
    forward: http
    routes: [{match: /a/, pool: main, rewrite: {prefix: /a, to: /b}, mirror: {pool: copies}}]
    error-pages: [{status: 404, file: %s}]
pools:
  main: {backends: [{address: %q}], %s}
  copies: {backends: [{address: %q}], %s}
`, site, file, main, quickHealth, copies, quickHealth)
	}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("<p>one")
	r := runAgent(t, config())
	if _, body := fetch(t, "/a/x"); body != "main /b/x" {
		t.Errorf("answer %q", body)
	}
	v := r.await("the copy counts", func(v view.View) bool { return v.Proxy.HTTP.Mirrored == 1 })
	if b := v.Services[0].Backends; len(b) != 2 || b[1].Pool != "copies" || v.Proxy.HTTP.MirrorDrops != 0 {
		t.Errorf("backends %+v", b)
	}
	if status, body := fetch(t, "/x"); status != 404 || body != "<p>one" {
		t.Errorf("%d %q without a route", status, body)
	}
	write("<p>two")
	r.reload(config())
	r.await("the page is another one", func(view.View) bool {
		_, body := fetch(t, "/x")
		return body == "<p>two"
	})
}

// TestAgentReloadsHTTP goes to and fro between pools while a client asks. No request
// fails, as no backend is ever sick.
func TestAgentReloadsHTTP(t *testing.T) {
	a, _ := page(t, "a")
	b, _ := page(t, "b")
	patient := func(config string) string { return strings.ReplaceAll(config, quickHealth, patientHealth) }
	r := runAgent(t, patient(routed(a, a, "127.0.0.1:1"))) // where nobody is
	own := fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, backends: [{address: %q}], %s}]\n", site, b, patientHealth)
	end := keepFetching(t, "/images/x")
	for i := range 6 {
		config, name := own, "b /x"
		if i%2 == 1 {
			config, name = patient(routed(a, a, b)), ""
		}
		r.reload(config)
		r.await("the reload", func(v view.View) bool { return len(v.Services[0].Backends) == 1+i%2*2 })
		if _, body := fetch(t, "/x"); name != "" && body != name {
			t.Errorf("answer %q, want %q", body, name)
		}
	}
	end()
	r.reload(strings.Replace(own, "forward: http", "forward: proxy", 1)) // another kind of front
	r.await("the reload", func(v view.View) bool { return v.Services[0].Rung == view.RungProxy })
	if _, body := fetch(t, "/x"); body != "b /x" {
		t.Errorf("answer %q of a TCP proxy", body)
	}
	r.reload("services: []\n")
	r.await("the service is gone", func(v view.View) bool { return len(v.Services) == 0 })
}

// keepFetching asks the site for a path, one time after the other, until the function
// that it returns is called. Each must be answered with 200.
func keepFetching(t *testing.T, path string) (end func()) {
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() {
		stop()
		<-ended
	})
	asked, failed, first := 0, 0, ""
	go func() {
		defer close(ended)
		for ; ctx.Err() == nil; asked++ {
			if status, body := fetch(t, path); status != 200 {
				if failed++; failed == 1 {
					first = fmt.Sprint(status, " ", body)
				}
			}
		}
	}()
	return func() {
		t.Helper()
		stop()
		if <-ended; failed > 0 || asked == 0 {
			t.Errorf("%d of %d requests failed, the first with %q", failed, asked, first)
		}
	}
}

func TestAgentLetsRequestsEnd(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-goOn
	}))
	t.Cleanup(s.Close)
	r := runAgent(t, fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, backends: [{address: %q}]}]\n", site, s.Listener.Addr()))
	status := make(chan int)
	go func() {
		got, _ := fetch(t, "/")
		status <- got
	}()
	<-arrived
	r.stop()
	await(t, "nobody listens any more", func() bool {
		c, err := net.Dial("tcp", site)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(goOn)
	if got := <-status; got != 200 {
		t.Errorf("status %d", got)
	}
}

func TestAgentKeepsWhatIsStored(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, asked.Add(1))
	}))
	t.Cleanup(s.Close)
	config := func(cache string) string {
		return fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, cache: %s, backends: [{address: '%s'}]}]\n", site, cache, s.Listener.Addr())
	}
	r := runAgent(t, config("{purge: [192.0.2.0/24]}"))
	for range 3 {
		if _, body := fetch(t, "/"); body != "1" {
			t.Errorf("answer %q", body)
		}
	}
	v := r.await("three requests count", func(v view.View) bool { return v.Proxy.HTTP.Answers.Good == 3 })
	if c := v.Proxy.HTTP.Cache; c.Hits != 2 || c.Misses != 1 || c.Pages != 1 || c.Bytes < 100 {
		t.Errorf("counts %+v", c)
	}
	r.reload(config("{size: 1MiB, purge: [127.0.0.1]}"))
	purge := func() int {
		req, _ := http.NewRequest("PURGE", "http://"+site+"/", nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	var status int
	await(t, "the reload is in force", func() bool { status = purge(); return status != 403 })
	if status != 204 {
		t.Errorf("purge answers %d", status)
	}
	if _, body := fetch(t, "/"); body != "2" {
		t.Errorf("answer %q after it was purged", body)
	}
	r.reload(config("false"))
	r.await("nothing is stored", func(v view.View) bool { return v.Proxy.HTTP.Cache == view.Cache{} })
	if _, body := fetch(t, "/"); body != "3" {
		t.Errorf("answer %q without a cache", body)
	}
}
