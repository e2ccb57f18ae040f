package httpproxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"fairlead/userspace/model"
)

// raw sends bytes over a connection of its own and returns all that comes back,
// without the date, when the proxy closes it.
func (f *front) raw(request string) string {
	f.t.Helper()
	c, r := f.dial()
	if _, err := io.WriteString(c, request); err != nil {
		f.t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil {
		f.t.Errorf("%q: read %q: %v", request, got, err)
	}
	return regexp.MustCompile("Date: [^\r]*\r\n").ReplaceAllString(string(got), "")
}

// refusal is an answer of the proxy's own, to a request that closes.
func refusal(status int, headers ...string) string {
	text := http.StatusText(status)
	all := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Length: %d\r\nContent-Type: text/plain; charset=utf-8\r\n", status, text, len(text)+1)
	return all + strings.Join(headers, "") + "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n" + text + "\n"
}

// bounded opens a front whose backend says how long each body is. Its peers are
// trusted, so that tests say who the client is.
func bounded(t *testing.T, b model.Bounds, routes ...model.Route) *front {
	t.Helper()
	back := handle(t, func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			fmt.Fprint(w, len(body))
		}
	})
	for i := range routes {
		routes[i].Pools = []model.Share{{Pool: "main", Weight: 1}}
		timeouts := usual
		timeouts.Body = routes[i].Timeouts.Body
		routes[i].Timeouts = timeouts
	}
	h := &model.HTTP{Bounds: b, Routes: routes, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	return serve(t, h, map[string]*model.Pool{"main": poolOf(back)})
}

// from is a request for a path of a client, which closes the connection.
func from(client, path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: " + client + "\r\nConnection: close\r\n\r\n"
}

const good = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

func TestBytesOfWhatIsRefused(t *testing.T) {
	access := model.Access{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Deny: []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32")}}
	f := bounded(t, model.Bounds{MaxURI: 20},
		model.Route{Match: "/private/", Access: access},
		model.Route{Match: "/", MaxBody: 5})
	post := func(headers, body string) string {
		return "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + headers + "\r\n\r\n" + body
	}
	broken := strings.Replace(refusal(400), "Connection: close\r\n", "", 1)
	broken = strings.Replace(broken, "Content-Length", "Connection: close\r\nContent-Length", 1)
	for _, row := range []struct{ name, request, want string }{
		{"a client that is allowed", from("10.1.2.3", "/private/x"), good + "0"},
		{"a client that is denied", from("10.0.0.7", "/private/x"), refusal(403)},
		{"a client that is not allowed", from("192.0.2.1", "/private/x"), refusal(403)},
		{"a client where there is no list", from("192.0.2.1", "/x"), good + "0"},
		{"a path that is just short enough", from("192.0.2.1", "/"+strings.Repeat("x", 19)), good + "0"},
		{"a path that is too long", from("192.0.2.1", "/"+strings.Repeat("x", 20)), refusal(414)},
		{"a query that is too long", from("192.0.2.1", "/?"+strings.Repeat("x", 19)), refusal(414)},
		{"a body that is just small enough", post("Content-Length: 5", "12345"), good + "5"},
		{"a body that is too large", post("Content-Length: 6", "123456"), refusal(413)},
		{"chunks that are just small enough", post("Transfer-Encoding: chunked", "3\r\n123\r\n2\r\n45\r\n0\r\n\r\n"), good + "5"},
		{"chunks that are too large", post("Transfer-Encoding: chunked", "3\r\n123\r\n3\r\n456\r\n0\r\n\r\n"), refusal(413)},
		{"a chunk that is none", post("Transfer-Encoding: chunked", "3\r\n123\r\nx\r\n"), broken},
	} {
		if got := f.raw(row.request); got != row.want {
			t.Errorf("%s:\ngot  %q\nwant %q", row.name, got, row.want)
		}
	}
}

func TestEachClientHasARate(t *testing.T) {
	limit := model.Rate{Requests: 1, Per: time.Hour, Burst: 2}
	routes := func() []model.Route {
		return []model.Route{{Match: "/a", Rate: limit}, {Match: "/b", Rate: limit}, {Match: "/free"}}
	}
	f := bounded(t, model.Bounds{}, routes()...)
	wait := regexp.MustCompile("Retry-After: (3600|35[0-9]{2})\r\n") // an hour, less what this took
	for i, step := range []struct {
		client, path string
		limited      bool
	}{
		{"192.0.2.1", "/a", false},
		{"192.0.2.1", "/a", false},
		{"192.0.2.1", "/a", true},
		{"192.0.2.2", "/a", false},
		{"192.0.2.1", "/b", false},
		{"192.0.2.1", "/free", false},
		{"2001:db8::1", "/a", false},
		{"2001:db8::2", "/a", false},
		{"2001:db8::ffff:3", "/a", true},
		{"2001:db8:0:1::1", "/a", false},
		{"192.0.2.1", "/a", true},
	} {
		if i == 8 {
			f.route(&model.HTTP{Routes: f.table.Load().routesOf(), Trusted: f.table.Load().trusted}) // a reload forgets nothing
		}
		got, want := f.raw(from(step.client, step.path)), good+"0"
		if step.limited {
			want = refusal(429, "Retry-After: 3600\r\n")
			got = wait.ReplaceAllString(got, "Retry-After: 3600\r\n")
		}
		if got != want {
			t.Errorf("step %d:\ngot  %q\nwant %q", i, got, want)
		}
	}
	if s := f.Stats(); s.RateLimited != 3 {
		t.Errorf("stats %+v, want three limited", s)
	}
}

// routesOf returns the routes that a table was made of, in any order.
func (t *Table) routesOf() (all []model.Route) {
	for _, routes := range t.routes {
		for _, r := range routes {
			all = append(all, *r.Route)
		}
	}
	return all
}

func TestTheRateOfAServiceIsForAllRoutes(t *testing.T) {
	f := bounded(t, model.Bounds{Rate: model.Rate{Requests: 1, Per: time.Hour, Burst: 2}}, model.Route{Match: "/a"}, model.Route{Match: "/b"})
	for i, path := range []string{"/a", "/b", "/none"} {
		want := 200
		if i == 2 {
			want = 429
		}
		if status, _ := f.get(path); status != want {
			t.Errorf("status %d of %s, want %d", status, path, want)
		}
	}
}

func TestMetersComeBackAndAreBounded(t *testing.T) {
	var m meters
	limit := model.Rate{Requests: 2, Per: time.Second, Burst: 1}
	now := time.Now()
	key := func(i int) meterKey {
		return meterKey{"", limit, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
	}
	for i, step := range []struct {
		after, wait time.Duration
	}{{0, 0}, {0, 500 * time.Millisecond}, {400 * time.Millisecond, 100 * time.Millisecond}, {500 * time.Millisecond, 0}} {
		if got := m.spend(key(0), now.Add(step.after)); got.Round(time.Microsecond) != step.wait {
			t.Errorf("step %d: wait %s, want %s", i, got, step.wait)
		}
	}
	for i := range 2 * maxMeters {
		m.spend(key(i+1), now)
	}
	n := 0
	for i := range m {
		n += len(m[i].known)
		if len(m[i].known) != m[i].recent.Len() {
			t.Errorf("shard %d knows %d, %d in order", i, len(m[i].known), m[i].recent.Len())
		}
	}
	if n > maxMeters {
		t.Errorf("%d clients are known", n)
	}
	if m.spend(key(0), now.Add(500*time.Millisecond)) != 0 {
		t.Error("who was silent longest is not forgotten")
	}
}

func TestABodyThatTakesTooLong(t *testing.T) {
	f := bounded(t, model.Bounds{}, model.Route{Match: "/", Timeouts: model.HTTPTimeouts{Body: short}})
	c, r := f.dial()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo")
	if res, _ := answerOf(t, r, false); res.StatusCode != 408 {
		t.Errorf("status %d, want 408", res.StatusCode)
	}
	if _, err := r.ReadByte(); err == nil {
		t.Error("the connection goes on")
	}
}

// TestABodyThatTakesTooLongForAVerdict ends while somebody else is asked whether the
// request may pass.
func TestABodyThatTakesTooLongForAVerdict(t *testing.T) {
	t.Cleanup(judges.CloseIdleConnections)
	g := gated(t)
	rules := model.Rules{ForwardAuth: &model.ForwardAuth{URL: "http://" + g.addr, Timeout: patience}}
	f := bounded(t, model.Bounds{}, model.Route{Match: "/", Timeouts: model.HTTPTimeouts{Body: short}, Rules: rules})
	c, r := f.dial()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo")
	if res, _ := answerOf(t, r, false); res.StatusCode != 408 {
		t.Errorf("status %d, want 408", res.StatusCode)
	}
}

func TestSlowHeadersAndIdleConnectionsEnd(t *testing.T) {
	f := bounded(t, model.Bounds{HeaderTimeout: short, KeepAlive: 2 * short}, model.Route{Match: "/"})
	for _, begin := range []string{"", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: "} {
		if got := f.raw(begin); got != "" {
			t.Errorf("after %q: %q", begin, got)
		}
	}
	if got, want := f.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), strings.Replace(good, "Connection: close\r\n", "", 1)+"0"; got != want {
		t.Errorf("got %q, want %q, and the end", got, want)
	}
}

func TestNewBoundsAreForNewConnections(t *testing.T) {
	f := bounded(t, model.Bounds{MaxHeader: 8 << 10}, model.Route{Match: "/"})
	request := "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 14<<10) + "\r\n\r\n"
	if res, _ := f.ask(request); res.StatusCode != 431 {
		t.Errorf("status %d of a large header, want 431", res.StatusCode)
	}
	old, r := f.dial()
	fmt.Fprint(old, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	answerOf(t, r, false)
	f.route(&model.HTTP{Bounds: model.Bounds{MaxHeader: 32 << 10}, Routes: f.table.Load().routesOf()})
	if res, _ := f.ask(request); res.StatusCode != 200 {
		t.Errorf("status %d when it may be larger, want 200", res.StatusCode)
	}
	fmt.Fprint(old, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if res, _ := answerOf(t, r, false); res.StatusCode != 200 {
		t.Errorf("status %d on a connection that was open", res.StatusCode)
	}
}

func TestEachClientHasOnlySoManyConnections(t *testing.T) {
	h := everything(usual)
	h.Bounds.MaxConnections = 2
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(names(t, "a"))})
	open := func() (end func() error, ok bool) {
		c, err := net.Dial("tcp4", f.addr)
		if err != nil {
			return func() error { return nil }, false // reset at once
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") // one that is refused may be reset by now
		_, err = http.ReadResponse(bufio.NewReader(c), nil)
		return c.Close, err == nil
	}
	end, ok := open()
	if _, too := open(); !ok || !too {
		t.Fatal("the first two have no answer")
	}
	if _, ok := open(); ok {
		t.Error("a third has an answer")
	}
	if s := f.Stats(); s.SourceLimit != 1 {
		t.Errorf("stats %+v", s)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is room again", func() bool {
		end, ok := open()
		_ = end()
		return ok
	})
	h.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	f.route(h)
	for range 3 {
		if _, ok := open(); !ok {
			t.Error("a trusted proxy has no answer")
		}
	}
}
