package httpproxy

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/userspace/model"
)

// breaking closes the connection of every request.
func breaking(string, net.Conn) string { return "" }

func TestWhatIsSentAgain(t *testing.T) {
	status := func(code int) func(string, net.Conn) string {
		return func(string, net.Conn) string { return fmt.Sprintf("HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n", code) }
	}
	const get, post, put = "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
	for _, row := range []struct {
		name, request string
		bad           func(string, net.Conn) string // nil refuses
		want          int
		arrived       int // requests at the bad backend
	}{
		{"GET after a refused connection", get, nil, 200, 0},
		{"POST after a refused connection", post, nil, 200, 0},
		{"GET after a reset", get, breaking, 200, 1},
		{"PUT after a reset", put, breaking, 200, 1},
		{"POST after a reset", post, breaking, 502, 1},
		{"GET after a status", get, status(503), 200, 1},
		{"POST after a status", post, status(503), 503, 1},
		{"GET after another status", get, status(500), 500, 1},
		{"GET after a half header", get, func(string, net.Conn) string { return "HTTP/1.1 200" }, 502, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			good, addr := take(t, say("ok")), testenv.FreeAddress(t)
			var bad *taker
			if row.bad != nil {
				bad = take(t, func(r string, c net.Conn) string {
					reply := row.bad(r, c)
					if strings.HasSuffix(reply, "200") {
						_, _ = c.Write([]byte(reply))
						return ""
					}
					return reply
				})
				addr = bad.addr()
			}
			p := poolOf(addr, good.addr())
			p.Retry.Statuses = []int{503}
			if res, _ := one(t, p).ask(row.request); res.StatusCode != row.want {
				t.Errorf("status %d, want %d", res.StatusCode, row.want)
			}
			if bad != nil && len(bad.seen()) != row.arrived {
				t.Errorf("%d requests at the bad backend, want %d", len(bad.seen()), row.arrived)
			}
			again := row.want == 200
			if (len(good.seen()) == 1) != again {
				t.Errorf("%d requests at the good backend", len(good.seen()))
			}
		})
	}
}

func TestABodyIsSentAgainFromItsBeginning(t *testing.T) {
	for size, want := range map[int]int{1: 200, 4096: 200, maxReplay: 200, maxReplay + 1: 502, 1 << 20: 502} {
		got := make(chan string, 2)
		bad := handle(t, func(w http.ResponseWriter, r *http.Request) {
			readAll(t, r)
			panic(http.ErrAbortHandler)
		})
		good := handle(t, func(_ http.ResponseWriter, r *http.Request) { got <- readAll(t, r) })
		body := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		f := one(t, poolOf(bad, good))
		res, _ := f.ask(fmt.Sprintf("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, body))
		if res.StatusCode != want {
			t.Errorf("%d bytes: status %d, want %d", size, res.StatusCode, want)
		}
		if want == 200 && <-got != body {
			t.Errorf("%d bytes: another body", size)
		}
	}
}

func TestARequestIsTriedSoManyTimes(t *testing.T) {
	var backends []*taker
	p := poolOf()
	for range 5 {
		b := take(t, breaking)
		backends = append(backends, b)
		p.Backends = append(p.Backends, poolOf(b.addr()).Backends...)
	}
	p.Retry.Attempts = 3
	f := one(t, p)
	if status, _ := f.get("/"); status != 502 {
		t.Errorf("status %d", status)
	}
	total := 0
	for i, b := range backends {
		if n := len(b.seen()); n > 1 {
			t.Errorf("backend %d was tried %d times", i, n)
		} else {
			total += n
		}
	}
	if total != 4 || f.Stats().Retries != 3 {
		t.Errorf("%d attempts, %d counted, want 4 and 3", total, f.Stats().Retries)
	}
}

func TestTheLastAnswerIsThatOfTheLastBackend(t *testing.T) {
	p := poolOf(handle(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "first", http.StatusServiceUnavailable) }))
	p.Retry.Statuses = []int{503}
	if status, body := one(t, p).get("/"); status != 503 || body != "first\n" {
		t.Errorf("%d %q", status, body)
	}
}

func TestABudgetBoundsAttempts(t *testing.T) {
	var b budget
	now := time.Now()
	for i := range mostRetries {
		if !b.spend(now) {
			t.Fatalf("attempt %d is refused", i)
		}
	}
	if b.spend(now) {
		t.Error("an attempt more than there are")
	}
	for range 5 {
		b.earn(20)
	}
	if !b.spend(now) || b.spend(now) {
		t.Error("five requests at 20 percent are not one attempt")
	}
	n := 0
	for b.spend(now.Add(time.Second)) {
		n++
	}
	if n != freeRetries {
		t.Errorf("%d attempts after a second, want %d", n, freeRetries)
	}
}

func TestFailuresInARowEject(t *testing.T) {
	failing := handle(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	p := poolOf(names(t, "good"), failing)
	p.Retry = model.Retry{Statuses: []int{503}}
	p.Eject = model.Eject{Failures: 3, Time: time.Hour, Most: time.Hour, Share: 50}
	f, bad := one(t, p), 0
	for range 20 {
		if status, _ := f.get("/"); status == 503 {
			bad++
		}
	}
	if out := f.pools["main"].Ejected(); bad != 3 || out[1].IsZero() || !out[0].IsZero() {
		t.Errorf("%d failures until the backend was out, want 3; out: %v", bad, out)
	}
	update(f.pools["main"], p, true) // the good one goes down
	if status, _ := f.get("/"); status != 503 {
		t.Errorf("status %d, want that of the backend that is out, as nobody else is there", status)
	}
	if f.Stats().NoBackend != 0 {
		t.Error("the backend that is out was not asked")
	}
}

func TestAtMostAShareOfAPoolIsEjected(t *testing.T) {
	p := poolOf()
	for range 4 {
		p.Backends = append(p.Backends, poolOf(testenv.FreeAddress(t)).Backends...)
	}
	p.Retry.Attempts = 0
	p.Eject = model.Eject{Failures: 1, Time: time.Hour, Most: time.Hour, Share: 50}
	f := one(t, p)
	for range 20 {
		f.get("/")
	}
	out := 0
	for _, until := range f.pools["main"].Ejected() {
		if !until.IsZero() {
			out++
		}
	}
	if out != 2 {
		t.Errorf("%d of 4 are out, want 2", out)
	}
}

func TestWhoFailsAgainIsOutForLonger(t *testing.T) {
	e := &model.Eject{Failures: 1, Time: time.Second, Most: 5 * time.Second}
	var o outs
	now := time.Now()
	for i, want := range []time.Duration{1, 2, 4, 5, 5} {
		got := o.fail(e, now)
		if got != want*time.Second {
			t.Errorf("time %d: %s, want %d s", i, got, want)
		}
		if o.eject(now.Add(got)); o.fail(e, now) != 0 {
			t.Error("who is out is ejected again")
		}
		now = now.Add(got + time.Millisecond)
	}
	if got := o.fail(e, now.Add(time.Minute)); got != time.Second {
		t.Errorf("after a good while: %s, want 1s", got)
	}
}

// TestATrailerIsSentAgain although the attempt before may still wait for it.
func TestATrailerIsSentAgain(t *testing.T) {
	busy := take(t, func(string, net.Conn) string {
		return "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	})
	p := poolOf(busy.addr(), handle(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, readAll(t, r), r.Trailer) }))
	p.Retry.Statuses = []int{503}
	f := one(t, p)
	for range 20 {
		c, r := f.dial()
		fmt.Fprint(c, "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n2\r\nhi\r\n")
		go fmt.Fprint(c, "0\r\nX-End: 1\r\nX-Other: 2\r\n\r\n")
		if res, body := answerOf(t, r, false); res.StatusCode != 200 || body != "himap[X-End:[1]]" {
			t.Errorf("status %d, body %q", res.StatusCode, body)
		}
	}
}

// TestTheLogSaysWhyABackendFails has a backend alone, which is never left out: without
// a line nobody would know where the 502 comes from.
func TestTheLogSaysWhyABackendFails(t *testing.T) {
	var log notebook
	pool := NewPool(slog.New(slog.NewTextHandler(&log, nil)))
	addr := testenv.FreeAddress(t)
	conf := poolOf(addr)
	conf.Name = "main"
	update(pool, conf)
	f := start(t, &Proxy{}, map[string]*Pool{"main": pool}, everything(usual))
	for range 3 {
		if status, _ := f.get("/"); status != 502 {
			t.Errorf("status %d", status)
		}
	}
	want := fmt.Sprintf(`level=WARN msg="backend fails" pool=main backend=%s err="dial tcp %s: connect: connection refused"`, addr, addr)
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) {
		t.Errorf("log:\n%swant one line with %s", got, want)
	}
}

// A notebook is a log that goroutines may write to at once.
type notebook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *notebook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *notebook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
