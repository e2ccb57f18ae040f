package httpproxy

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/userspace/model"
)

// byCookie is what the configuration makes of sticky: cookie.
var byCookie = model.Sticky{
	By: model.StickyCookie, Name: "fairlead-main", Path: "/", SameSite: model.SameSiteLax, HTTPOnly: true, Key: "0123456789abcdef",
}

// sticky returns a pool of named backends, and their addresses by name.
func sticky(t *testing.T, by model.Sticky, all ...string) (conf *model.Pool, addrs map[string]string) {
	addrs = map[string]string{}
	var list []string
	for _, name := range all {
		addrs[name] = names(t, name)
		list = append(list, addrs[name])
	}
	conf = poolOf(list...)
	conf.Name, conf.Sticky = "main", by
	return conf, addrs
}

// visit asks for a page with some header lines, and returns who answers and the
// cookie that is set, as a header line.
func (f *front) visit(lines ...string) (who, cookie string) {
	f.t.Helper()
	res, body := f.ask("GET / HTTP/1.1\r\nHost: example.com\r\n" + strings.Join(lines, "") + "Connection: close\r\n\r\n")
	if res.StatusCode != 200 {
		f.t.Errorf("status %d", res.StatusCode)
	}
	for _, c := range res.Cookies() {
		cookie = "Cookie: " + c.Name + "=" + c.Value + "\r\n"
	}
	return body, cookie
}

func TestCookiesOfStickySessions(t *testing.T) {
	edit := func(f func(*model.Sticky)) model.Sticky {
		s := byCookie
		f(&s)
		return s
	}
	for _, row := range []struct {
		name    string
		sticky  model.Sticky
		request string // header lines
		want    string // with V for the value
	}{
		{"by default", byCookie, "", "fairlead-main=V; Path=/; HttpOnly; SameSite=Lax"},
		{"with everything", edit(func(s *model.Sticky) {
			s.Name, s.Path, s.Domain, s.Lifetime = "sid", "/shop", "example.com", time.Hour
			s.SameSite, s.HTTPOnly, s.Secure = model.SameSiteNone, false, model.SecureYes
		}), "", "sid=V; Path=/shop; Domain=example.com; Max-Age=3600; Secure; SameSite=None"},
		{"strict", edit(func(s *model.Sticky) { s.SameSite = model.SameSiteStrict }), "", "fairlead-main=V; Path=/; HttpOnly; SameSite=Strict"},
		{"over TLS, as a trusted peer says", byCookie, "X-Forwarded-Proto: https\r\n", "fairlead-main=V; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{"never secure", edit(func(s *model.Sticky) { s.Secure = model.SecureNo }), "X-Forwarded-Proto: https\r\n", "fairlead-main=V; Path=/; HttpOnly; SameSite=Lax"},
		{"beside the client's own", byCookie, "Cookie: a=b\r\n", "fairlead-main=V; Path=/; HttpOnly; SameSite=Lax"},
	} {
		t.Run(row.name, func(t *testing.T) {
			conf, _ := sticky(t, row.sticky, "a")
			h := everything(usual)
			h.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			f := serve(t, h, map[string]*model.Pool{"main": conf})
			res, _ := f.ask("GET / HTTP/1.1\r\nHost: example.com\r\n" + row.request + "Connection: close\r\n\r\n")
			got := regexp.MustCompile(`=[A-Za-z0-9_-]{43};`).ReplaceAllString(res.Header.Get("Set-Cookie"), "=V;")
			if got != row.want || len(res.Header["Set-Cookie"]) != 1 {
				t.Errorf("Set-Cookie %q, want %q", res.Header["Set-Cookie"], row.want)
			}
		})
	}
}

func TestAClientStaysWithTheBackendOfItsCookie(t *testing.T) {
	conf, _ := sticky(t, byCookie, "a", "b", "c")
	f := one(t, conf)
	who, cookie := f.visit()
	for range 20 {
		if is, fresh := f.visit("Cookie: x=y\r\n", cookie); is != who || fresh != "" {
			t.Fatalf("answer of %s with cookie %q, want %s and none", is, fresh, who)
		}
	}
	for name, bad := range map[string]string{
		"nonsense":         "Cookie: fairlead-main=!\r\n",
		"cut":              cookie[:len(cookie)-5] + "\r\n",
		"forged":           strings.Replace(cookie, "=", "=AAAA", 1)[:len(cookie)-2] + "\r\n",
		"of another name":  strings.Replace(cookie, "main", "other", 1),
		"of another key":   "Cookie: fairlead-main=" + sealOf(conf, "fedcba9876543210").value(0, 0) + "\r\n",
		"of another pool":  "Cookie: fairlead-main=" + sealOf(&model.Pool{Service: model.Service{Name: "x", Backends: conf.Backends}, Sticky: conf.Sticky}, conf.Sticky.Key).value(0, 0) + "\r\n",
		"that is too old":  "Cookie: fairlead-main=" + sealOf(conf, conf.Sticky.Key).value(0, 1) + "\r\n",
		"of a bit flipped": flip(cookie),
	} {
		if _, fresh := f.visit(bad); fresh == "" {
			t.Errorf("a cookie %s is taken", name)
		}
	}
	good := "Cookie: fairlead-main=" + sealOf(conf, conf.Sticky.Key).value(1, time.Now().Unix()+1000) + "\r\n"
	if who, _ := f.visit("Cookie: fairlead-main=x\r\n", good); who != "b" {
		t.Errorf("the good cookie of two leads to %s, want b", who)
	}
}

func sealOf(conf *model.Pool, key string) *seal {
	other := *conf
	other.Sticky.Key = key
	return newSeal(&other)
}

// flip changes one letter of a cookie's value.
func flip(cookie string) string {
	b := []byte(cookie)
	at := strings.Index(cookie, "=") + 3
	if b[at]++; b[at] == 'z'+1 || b[at] == 'Z'+1 || b[at] == '9'+1 {
		b[at] = 'A'
	}
	return string(b)
}

// mates returns the index of the backend that a name belongs to.
func index(conf *model.Pool, addr string) int {
	for i, b := range conf.Backends {
		if b.Address.String() == addr {
			return i
		}
	}
	return -1
}

func TestWhatEndsAStay(t *testing.T) {
	for by, s := range map[string]model.Sticky{
		"cookie": byCookie,
		"header": {By: model.StickyHeader, Name: "X-User", Lifetime: time.Hour},
		"source": {By: model.StickySource, Lifetime: time.Hour},
	} {
		t.Run(by, func(t *testing.T) {
			conf, addrs := sticky(t, s, "a", "b")
			f := one(t, conf)
			const user = "X-User: u1\r\n"
			who, cookie := f.visit(user)
			at := index(conf, addrs[who])

			drained := *conf
			drained.Backends = append([]model.Backend{}, conf.Backends...)
			drained.Backends[at].Weight = 0
			update(f.pools["main"], &drained)
			for range 5 {
				if is, fresh := f.visit(user, cookie); is != who || fresh != "" {
					t.Fatalf("answer of %s, which does not drain, cookie %q", is, fresh)
				}
			}
			down := []bool{at == 0, at == 1}
			update(f.pools["main"], conf, down...)
			is, fresh := f.visit(user, cookie)
			if is == who || (fresh != "") != (by == "cookie") {
				t.Errorf("answer of %s with cookie %q, though it is down", is, fresh)
			}
			update(f.pools["main"], conf)
			for range 5 {
				if again, _ := f.visit(user, fresh); again != is {
					t.Fatalf("answer of %s, want %s, where the client is by now", again, is)
				}
			}
			gone := *conf
			gone.Backends = []model.Backend{conf.Backends[at]}
			update(f.pools["main"], &gone)
			if is, renewed := f.visit(user, fresh); is != who || (renewed != "") != (by == "cookie") {
				t.Errorf("answer of %s with cookie %q after the other was removed", is, renewed)
			}
		})
	}
}

func TestAStickyBackendThatRefusesIsReplaced(t *testing.T) {
	conf, addrs := sticky(t, byCookie, "a")
	dead := testenv.FreeAddress(t)
	conf.Backends = append(conf.Backends, model.Backend{Address: netip.MustParseAddrPort(dead), Weight: 1})
	f := one(t, conf)
	who, cookie := f.visit("Cookie: fairlead-main=" + newSeal(conf).value(1, 0) + "\r\n")
	want := "Cookie: fairlead-main=" + newSeal(conf).value(0, 0) + "\r\n"
	if who != "a" || cookie != want || addrs["a"] == "" {
		t.Errorf("answer of %s with %q, want a with %q", who, cookie, want)
	}
}

func TestABackendThatIsFullKeepsItsStays(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	slow := handle(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- struct{}{}
			<-goOn
		}
		fmt.Fprint(w, "slow")
	})
	conf := poolOf(slow, names(t, "other"))
	conf.Name, conf.Sticky, conf.MaxRequests = "main", byCookie, 1
	f := one(t, conf)
	cookie := "Cookie: fairlead-main=" + newSeal(conf).value(0, 0) + "\r\n"
	ended := make(chan string)
	go func() {
		_, body := f.get("/slow", cookie)
		ended <- body
	}()
	<-arrived
	if who, fresh := f.visit(cookie); who != "other" || fresh != "" {
		t.Errorf("answer of %s with cookie %q while it is full, want other and none", who, fresh)
	}
	close(goOn)
	<-ended
	eventually(t, "the client comes back", func() bool {
		who, _ := f.visit(cookie)
		return who == "slow"
	})
}

func TestClientsOfAHeaderAreSpreadAndAgreedUpon(t *testing.T) {
	by := model.Sticky{By: model.StickyHeader, Name: "X-User", Lifetime: time.Hour}
	conf, _ := sticky(t, by, "a", "b", "c")
	conf.Backends[2].Weight = 2
	f, g := one(t, conf), one(t, conf)
	count := map[string]int{}
	for i := range 60 {
		user := fmt.Sprintf("X-User: %d\r\n", i)
		who, cookie := f.visit(user)
		if other, _ := g.visit(user); other != who || cookie != "" {
			t.Errorf("user %d: %s and %s, cookie %q", i, who, other, cookie)
		}
		count[who]++
	}
	if count["a"] < 5 || count["b"] < 5 || count["c"] < 15 {
		t.Errorf("spread %v", count)
	}
	seen := map[string]bool{}
	for range 4 {
		who, _ := f.visit()
		seen[who] = true
	}
	if len(seen) < 3 {
		t.Errorf("without the header only %v answer", seen)
	}
}

func TestASplitKeepsThePoolOfACookie(t *testing.T) {
	main, _ := sticky(t, byCookie, "main")
	canary, _ := sticky(t, byCookie, "canary")
	canary.Name, canary.Sticky.Name = "canary", "fairlead-canary"
	h := everything(usual)
	h.Routes[0].Pools = []model.Share{{Pool: "main", Weight: 1}, {Pool: "canary", Weight: 0}}
	f := serve(t, h, map[string]*model.Pool{"main": main, "canary": canary})
	cookie := "Cookie: fairlead-canary=" + newSeal(canary).value(0, 0) + "\r\n"
	for range 5 {
		if who, _ := f.visit(); who != "main" {
			t.Errorf("answer of %s", who)
		}
		if who, fresh := f.visit(cookie); who != "canary" || fresh != "" {
			t.Errorf("answer of %s with cookie %q to a client of the canary", who, fresh)
		}
	}
}

func TestAChangedProtocolGetsItsCookie(t *testing.T) {
	b := take(t, func(string, net.Conn) string {
		return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
	})
	conf := poolOf(b.addr())
	conf.Name, conf.Sticky = "main", byCookie
	f := one(t, conf)
	c, r := f.dial()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 101 || !strings.HasPrefix(res.Header.Get("Set-Cookie"), "fairlead-main=") {
		t.Errorf("status %d, header %v", res.StatusCode, res.Header)
	}
}

func TestCookiesAreRenewedInTime(t *testing.T) {
	hour := model.Sticky{Lifetime: time.Hour}
	for _, row := range []struct {
		name string
		conf model.Sticky
		left int64
		ever bool
		want bool
	}{
		{"just given", hour, 3600, false, true},
		{"half of it over", hour, 1800, false, true},
		{"more than half", hour, 1799, false, false},
		{"longer than it is to be now", hour, 3601, false, false},
		{"for ever, which it is not to be any more", hour, -1, true, false},
		{"for ever", model.Sticky{}, -1, true, true},
		{"not for ever any more", model.Sticky{}, 3600, false, false},
	} {
		if got := lasts(&row.conf, row.left, row.ever); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

func TestStaysAreForgotten(t *testing.T) {
	var all stays
	conf, b := &model.Sticky{By: model.StickyHeader, Lifetime: time.Hour}, &backend{}
	now := time.Now()
	for i := range maxStays + 1 {
		all.note(conf, &stay{key: uint64(i + 1)}, b, now)
	}
	if all.get(1, now) != nil || all.get(2, now) != b || len(all.by) != maxStays {
		t.Errorf("of %d stays the oldest is not forgotten", len(all.by))
	}
	if all.get(2, now.Add(time.Second)) != nil {
		t.Error("a stay outlives its lifetime")
	}
}
