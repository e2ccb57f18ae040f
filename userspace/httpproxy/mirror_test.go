package httpproxy

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"fairlead/testenv"
	"fairlead/userspace/model"
)

// mirrored opens a front whose requests go to a pool, and copies to another.
func mirrored(t *testing.T, m model.Mirror, main, other string) *front {
	t.Helper()
	h := everything(usual)
	m.Pool = "other"
	h.Routes[0].Mirror = &m
	h.Routes[0].RequestHeaders = model.HeaderRules{Set: headersOf("X-A", "1")}
	h.Routes[0].Rewrite = &model.Rewrite{Prefix: "/a", To: "/b"}
	return serve(t, h, map[string]*model.Pool{"main": poolOf(main), "other": poolOf(other)})
}

// A listener is a backend that keeps requests as they are once they are whole.
type listener struct {
	mu  sync.Mutex
	all []string
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var b strings.Builder
	body := make([]byte, 1<<20)
	n := 0
	for {
		m, err := r.Body.Read(body[n:])
		if n += m; err != nil {
			break
		}
	}
	_ = r.Header.Write(&b)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintf("%s %s %s %d %s%s", r.Method, r.RequestURI, r.Host, r.ContentLength, forwardedLines.ReplaceAllString(b.String(), ""), body[:n]))
}

func (l *listener) seen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.all...)
}

func TestMirroredRequests(t *testing.T) {
	other := &listener{}
	f := mirrored(t, model.Mirror{Percent: 100, MaxBody: 4, Most: 100}, names(t, "main"), handle(t, other.ServeHTTP))
	const head = " HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nCookie: c\r\n"
	const rest = "Cookie: c\r\nX-A: 1\r\n"
	want, drops := []string{}, uint64(0)
	for _, row := range []struct{ name, request, want string }{
		{"no body", "GET /a/x?y=%" + head + "\r\n", "GET /b/x?y=% example.com 0 " + rest},
		{"a body", "POST /a" + head + "Content-Length: 4\r\n\r\nbody", "POST /b example.com 4 Content-Length: 4\r\n" + rest + "body"},
		{"a body in chunks", "PUT /a" + head + "Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n", "PUT /b example.com 4 Content-Length: 4\r\n" + rest + "body"},
		{"an empty body in chunks", "PUT /a" + head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "PUT /b example.com 0 Content-Length: 0\r\n" + rest},
		{"a body that is too long", "POST /a" + head + "Content-Length: 5\r\n\r\nbody.", ""},
		{"chunks that are too long", "POST /a" + head + "Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n3\r\ndy.\r\n0\r\n\r\n", ""},
	} {
		if _, body := f.ask(row.request); body != "main" {
			t.Errorf("%s: answer %q", row.name, body)
		}
		if row.want == "" {
			drops++
		} else {
			want = append(want, row.want)
		}
		eventually(t, row.name, func() bool {
			s := f.Stats()
			return len(other.seen()) == len(want) && s.MirrorDrops == drops && s.Mirrored == uint64(len(want))
		})
	}
	for i, got := range other.seen() {
		if got != want[i] {
			t.Errorf("copy %q, want %q", got, want[i])
		}
	}
}

func TestAMirrorNeitherDelaysNorFails(t *testing.T) {
	hold := make(chan struct{})
	stuck := take(t, func(string, net.Conn) string { <-hold; return "" })
	f := mirrored(t, model.Mirror{Percent: 100, Most: 2}, names(t, "main"), stuck.addr())
	for range 10 {
		if status, body := f.get("/"); status != 200 || body != "main" {
			t.Fatalf("answer %d %q", status, body)
		}
	}
	if s := f.Stats(); s.Mirrored != 2 || s.MirrorDrops != 8 || s.Retries != 0 || s.NoBackend != 0 {
		t.Errorf("%+v", s)
	}
	f.stop() // does not wait for copies either
	f.await()
	close(hold)
}

// TestAMirrorThatChangesTheProtocol unasked has no request for ever.
func TestAMirrorThatChangesTheProtocol(t *testing.T) {
	other := take(t, func(string, net.Conn) string { return "HTTP/1.1 101 So\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" })
	f := mirrored(t, model.Mirror{Percent: 100, MaxBody: 4, Most: 100}, names(t, "main"), other.addr())
	f.get("/")
	eventually(t, "the copy is over", func() bool {
		s := f.pools["other"].Stats()[0]
		return s.Attempts == 1 && s.Running == 0
	})
}

func TestAMirrorThatIsGone(t *testing.T) {
	f := mirrored(t, model.Mirror{Percent: 100, Most: 1}, names(t, "main"), testenv.FreeAddress(t))
	for range 5 {
		if status, body := f.get("/"); status != 200 || body != "main" {
			t.Fatalf("answer %d %q", status, body)
		}
	}
	if s := f.Stats(); s.Mirrored+s.MirrorDrops != 5 {
		t.Errorf("%+v", s)
	}
}

func TestSomeRequestsAreMirrored(t *testing.T) {
	other := &listener{}
	f := mirrored(t, model.Mirror{Percent: 50, Most: 1000}, names(t, "main"), handle(t, other.ServeHTTP))
	const all = 200
	for range all {
		f.get("/")
	}
	if n := f.Stats().Mirrored; n < all/5 || n > all*4/5 || f.Stats().MirrorDrops > 0 {
		t.Errorf("%d of %d", n, all)
	}
}
