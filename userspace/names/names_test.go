package names

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"fairlead/testenv/leak"
	"fairlead/testenv/nameserver"
	"fairlead/userspace/model"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

var (
	a, alias, srv = nameserver.A, nameserver.Alias, nameserver.SRV

	host    = model.Backend{Address: netip.AddrPortFrom(netip.Addr{}, 80), Name: model.Name{Host: "app.test"}, Weight: 3}
	records = model.Backend{Name: model.Name{Host: "_http._tcp.app.test", SRV: true}, Weight: 1}
	literal = model.Backend{Address: netip.MustParseAddrPort("10.0.0.1:80"), Weight: 1}
)

// stateOf returns a state that asks these servers about the backends of one service.
func stateOf(forward model.Forward, listen string, backends []model.Backend, servers ...netip.AddrPort) *model.State {
	at := netip.MustParseAddrPort(listen)
	return &model.State{
		Resolver: model.Resolver{Servers: servers, Timeout: 5 * time.Second, MinTTL: time.Millisecond, MaxTTL: time.Hour},
		Services: []model.Service{{Name: "web", Listen: at, LastPort: at.Port(), Forward: forward, Backends: backends}},
	}
}

// text returns the backends of the first service in short.
func text(state *model.State) string {
	var all []string
	for _, b := range state.Services[0].Backends {
		all = append(all, fmt.Sprintf("%s/%d", b.Address, b.Weight))
		if b.Backup {
			all[len(all)-1] += "b"
		}
	}
	return strings.Join(all, " ")
}

func TestNamesGiveWayToTheirAddresses(t *testing.T) {
	s := nameserver.New(t, "127.0.0.1")
	s.Set(60, "app.test", a("10.0.0.2"), a("10.0.0.1"), a("2001:db8::1"))
	for _, row := range []struct {
		name     string
		forward  model.Forward
		listen   string
		backends []model.Backend
		records  []dnsmessage.ResourceBody // of the service
		want     string
	}{
		{"packets go to the family of the service", model.ForwardDNAT, "203.0.113.10:80", []model.Backend{host}, nil, "10.0.0.1:80/3 10.0.0.2:80/3"},
		{"which may be IPv6", model.ForwardDNAT, "[2001:db8::10]:80", []model.Backend{host}, nil, "[2001:db8::1]:80/3"},
		{"or to that of other backends", model.ForwardFullNAT, "[2001:db8::10]:80", []model.Backend{host, {Address: netip.MustParseAddrPort("10.0.0.9:80"), Weight: 1}}, nil,
			"10.0.0.1:80/3 10.0.0.2:80/3 10.0.0.9:80/1"},
		{"the proxy goes to both", model.ForwardProxy, "203.0.113.10:80", []model.Backend{host}, nil, "10.0.0.1:80/3 10.0.0.2:80/3 [2001:db8::1]:80/3"},
		{"an address of its own stays as it is", model.ForwardDNAT, "203.0.113.10:80", []model.Backend{host, literal}, nil, "10.0.0.2:80/3 10.0.0.1:80/1"},
		{"not to the service itself", model.ForwardDNAT, "10.0.0.2:80", []model.Backend{host}, nil, "10.0.0.1:80/3"},
		{"records of a service", model.ForwardDNAT, "203.0.113.10:80", []model.Backend{records},
			[]dnsmessage.ResourceBody{srv("app.test", 8080, 1, 10), srv("other.test", 8081, 2, 0), srv("app.test", 8082, 1, 20)},
			"10.0.0.1:8080/10 10.0.0.2:8080/10 10.0.0.1:8082/20 10.0.0.2:8082/20 10.0.9.1:8081/1b"},
		{"that say no weights", model.ForwardDNAT, "203.0.113.10:80", []model.Backend{records}, []dnsmessage.ResourceBody{srv("other.test", 1, 1, 0)}, "10.0.9.1:1/1"},
		{"with weights beyond ours", model.ForwardDNAT, "203.0.113.10:80", []model.Backend{records},
			[]dnsmessage.ResourceBody{srv("other.test", 1, 1, 60000), srv("other.test", 2, 1, 30000), srv("other.test", 3, 1, 1)}, "10.0.9.1:1/1000 10.0.9.1:2/500 10.0.9.1:3/1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.Set(60, "other.test", alias("end.test"))
			s.Set(60, "end.test", a("10.0.9.1"))
			if row.records != nil {
				s.Set(60, "_http._tcp.app.test", row.records...)
			}
			got, err := Lookup(t.Context(), stateOf(row.forward, row.listen, row.backends, s.Addr))
			if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(row.want, text(got)); diff != "" {
				t.Errorf("backends (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPoolsDoNotLeadBack has a name mean services that the pool is of, and one that it
// is not.
func TestPoolsDoNotLeadBack(t *testing.T) {
	s := nameserver.New(t, "127.0.0.1")
	s.Set(60, "app.test", a("10.0.0.1"), a("10.0.0.2"), a("10.0.0.3"), a("10.0.0.4"), a("10.0.0.5"))
	state := stateOf(model.ForwardHTTP, "10.0.0.1:80", nil, s.Addr)
	add := func(listen string, f model.Forward) *model.Service {
		at := netip.MustParseAddrPort(listen)
		state.Services = append(state.Services, model.Service{Name: listen, Listen: at, LastPort: at.Port(), Forward: f})
		return &state.Services[len(state.Services)-1]
	}
	state.Services[0].HTTP.Routes = []model.Route{{Match: "/", Pools: []model.Share{{Pool: "main", Weight: 1}}}}
	add("10.0.0.2:80", model.ForwardHTTP).HTTP.Routes = []model.Route{{Match: "/", Rules: model.Rules{Mirror: &model.Mirror{Pool: "main"}}}}
	add("10.0.0.3:80", model.ForwardTLS).Names = []model.NameRoute{{Name: "*", Pool: "main"}}
	add("10.0.0.4:80", model.ForwardHTTP).HTTP.Routes = []model.Route{{Match: "/", Pools: []model.Share{{Pool: "other", Weight: 1}}}}
	state.Pools = []model.Pool{{Service: model.Service{Name: "main", Forward: model.ForwardHTTP, Backends: []model.Backend{host}}}}
	got, err := Lookup(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, b := range got.Pools[0].Backends {
		all = append(all, b.Address.String())
	}
	if want := []string{"10.0.0.4:80", "10.0.0.5:80"}; !slices.Equal(all, want) {
		t.Errorf("backends %q, want %q", all, want)
	}
}

func TestPacketsAreNotLedToWhereTheyCannotGo(t *testing.T) {
	s := nameserver.New(t, "127.0.0.1")
	s.Set(60, "app.test", a("127.0.0.1"), a("224.0.0.1"), a("0.0.0.0"), a("255.255.255.255"), a("10.0.0.1"), a("10.0.0.1"))
	state := stateOf(model.ForwardDNAT, "203.0.113.10:80", []model.Backend{host}, s.Addr)
	got, err := Lookup(t.Context(), state)
	if err != nil || text(got) != "10.0.0.1:80/3" {
		t.Errorf("backends %s, error %v", text(got), err)
	}
	state.XDP = model.XDPOff
	if got, _ := Lookup(t.Context(), state); text(got) != "10.0.0.1:80/3 127.0.0.1:80/3" {
		t.Errorf("backends without XDP %s", text(got))
	}
}

func TestLocalhostIsThisHost(t *testing.T) {
	s := nameserver.New(t, "127.0.0.1")
	s.Set(60, "localhost", a("10.0.0.1"))
	for _, name := range []string{"localhost", "app.localhost"} {
		local := model.Backend{Name: model.Name{Host: name}, Address: netip.AddrPortFrom(netip.Addr{}, 80), Weight: 1}
		got, err := Lookup(t.Context(), stateOf(model.ForwardProxy, "203.0.113.10:80", []model.Backend{local}, s.Addr))
		if err != nil || text(got) != "127.0.0.1:80/1" {
			t.Errorf("%s: backends %s, error %v", name, text(got), err)
		}
	}
	if n := s.Asked(); n > 0 {
		t.Errorf("the name server was asked %d times", n)
	}
}

func TestANameThatIsMissingIsSaidOnce(t *testing.T) {
	s := nameserver.New(t, "127.0.0.1")
	state := stateOf(model.ForwardProxy, "203.0.113.10:80", []model.Backend{host}, s.Addr)
	more := state.Services[0]
	more.Name, more.Listen = "more", netip.MustParseAddrPort("[2001:db8::10]:80")
	state.Services = append(state.Services, more)
	if _, err := Lookup(t.Context(), state); err == nil || strings.Count(err.Error(), "app.test") != 1 {
		t.Errorf("error %v", err)
	}
}

// A follower refreshes what a resolver knows of a state.
type follower struct {
	*Resolver
	t     *testing.T
	state *model.State
}

// await refreshes until the backends are what is wanted.
func (f *follower) await(want string) {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		wait := f.Refresh(f.t.Context(), f.state)
		got := text(f.Expand(f.state))
		if got == want {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("backends %s, want %s", got, want)
		}
		time.Sleep(wait)
	}
}

func TestAddressesComeAndGo(t *testing.T) {
	s := nameserver.New(t, "127.0.0.1")
	s.Set(0, "app.test", a("10.0.0.1"))
	f := follower{New(slog.New(slog.DiscardHandler)), t, stateOf(model.ForwardProxy, "203.0.113.10:80", []model.Backend{host}, s.Addr)}
	f.await("10.0.0.1:80/3")
	s.Set(0, "app.test", a("10.0.0.2"), a("2001:db8::1"))
	f.await("10.0.0.2:80/3 [2001:db8::1]:80/3")
	s.Set(0, "app.test", a("10.0.0.2"))
	f.await("10.0.0.2:80/3") // the other family has one, so this is no failure
}

// TestWhatIsPreparedIsThereWhenItIsWanted has the state in force refreshed between the
// look-up for another one and the moment when that takes its place.
func TestWhatIsPreparedIsThereWhenItIsWanted(t *testing.T) {
	s := nameserver.New(t, "127.0.0.1")
	s.Set(1000, "app.test", a("10.0.0.1"))
	s.Set(1000, "old.test", a("10.0.0.2"))
	old := host
	old.Name.Host = "old.test"
	state := stateOf(model.ForwardProxy, "203.0.113.10:80", []model.Backend{old}, s.Addr)
	next := stateOf(model.ForwardProxy, "203.0.113.10:80", []model.Backend{host}, s.Addr)
	r := New(slog.New(slog.DiscardHandler))
	r.Refresh(t.Context(), state)
	if err := r.Prepare(t.Context(), next); err != nil {
		t.Error(err)
	}
	r.Refresh(t.Context(), state)
	if got := text(r.Expand(next)); got != "10.0.0.1:80/3" {
		t.Errorf("backends %q of what is prepared", got)
	}
	r.Refresh(t.Context(), next)
	if got := text(r.Expand(state)); got != "" {
		t.Errorf("backends %q of what is needed no more", got)
	}
}

func TestAFailedLookUpKeepsTheLastAddresses(t *testing.T) {
	for name, fail := range map[string]func(*nameserver.Server){
		"the server is ill":   func(s *nameserver.Server) { s.Fall(true) },
		"the name is gone":    func(s *nameserver.Server) { s.Set(0, "app.test") },
		"there is nothing":    func(s *nameserver.Server) { s.Set(0, "app.test", srv("x.test", 1, 1, 1)) },
		"the alias is broken": func(s *nameserver.Server) { s.Set(0, "app.test", alias("nowhere.test")) },
	} {
		t.Run(name, func(t *testing.T) {
			s := nameserver.New(t, "127.0.0.1")
			s.Set(0, "app.test", a("10.0.0.1"))
			f := follower{New(slog.New(slog.DiscardHandler)), t, stateOf(model.ForwardDNAT, "203.0.113.10:80", []model.Backend{host}, s.Addr)}
			f.await("10.0.0.1:80/3")
			fail(s)
			for asked := s.Asked(); s.Asked() < asked+4; {
				f.await("10.0.0.1:80/3")
			}
			s.Fall(false)
			s.Set(0, "app.test", a("10.0.0.3"))
			f.await("10.0.0.3:80/3")
		})
	}
}

func TestAnswersAreGoodForAsLongAsTheySay(t *testing.T) {
	s := nameserver.New(t, "127.0.0.1")
	s.Set(1000, "app.test", a("10.0.0.1"))
	state := stateOf(model.ForwardDNAT, "203.0.113.10:80", []model.Backend{host}, s.Addr)
	r := New(slog.New(slog.DiscardHandler))
	if wait := r.Refresh(t.Context(), state); wait < 900*time.Second || wait > 1000*time.Second {
		t.Errorf("good for %s, want what the record says", wait)
	}
	r.Refresh(t.Context(), state)
	if s.Asked() != 1 {
		t.Errorf("asked %d times, want once", s.Asked())
	}
	state.Resolver.MaxTTL = time.Minute
	r = New(slog.New(slog.DiscardHandler))
	if wait := r.Refresh(t.Context(), state); wait < 50*time.Second || wait > time.Minute {
		t.Errorf("good for %s, want the bound", wait)
	}
	if wait := r.Refresh(t.Context(), &model.State{}); wait != 0 || len(r.records) != 0 {
		t.Errorf("good for %s with %d records where nobody has a name", wait, len(r.records))
	}
}

func TestALongAnswerComesOverTCP(t *testing.T) {
	s := nameserver.New(t, "127.0.0.1")
	var many []dnsmessage.ResourceBody
	for i := range 2 * maxRecords {
		many = append(many, a(fmt.Sprintf("10.0.%d.%d", i/100, i%100+1)))
	}
	s.Set(60, "app.test", many...)
	got, err := Lookup(t.Context(), stateOf(model.ForwardDNAT, "203.0.113.10:80", []model.Backend{host}, s.Addr))
	if n := len(got.Services[0].Backends); err != nil || n != maxRecords {
		t.Errorf("%d backends, error %v, want %d", n, err, maxRecords)
	}
}

func TestTheNextServerIsAskedIfOneFails(t *testing.T) {
	ill, well := nameserver.New(t, "127.0.0.1"), nameserver.New(t, "127.0.0.1")
	ill.Fall(true)
	well.Set(60, "app.test", a("10.0.0.1"))
	state := stateOf(model.ForwardDNAT, "203.0.113.10:80", []model.Backend{host}, ill.Addr, well.Addr)
	if got, err := Lookup(t.Context(), state); err != nil || text(got) != "10.0.0.1:80/3" {
		t.Errorf("backends %s, error %v", text(got), err)
	}
	well.Fall(true)
	got, err := Lookup(t.Context(), state)
	want := fmt.Sprintf("look app.test up: ask %s: server says ServerFailure", well.Addr)
	if err == nil || err.Error() != want || len(got.Services[0].Backends) != 0 {
		t.Errorf("backends %s, error %v, want %s", text(got), err, want)
	}
}

func TestSilenceIsAFailureInTime(t *testing.T) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	state := stateOf(model.ForwardDNAT, "203.0.113.10:80", []model.Backend{host}, netip.MustParseAddrPort(c.LocalAddr().String()))
	state.Resolver.Timeout = 50 * time.Millisecond
	if _, err := Lookup(t.Context(), state); err == nil || !strings.Contains(err.Error(), "await answer") {
		t.Errorf("error %v", err)
	}
	state.Resolver.Timeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := Lookup(ctx, state); err == nil {
		t.Error("no error of a look-up that was broken off")
	}
}

// TestAServerThatIsNotThereIsToldOfOnce asks again and again, each time from a port of
// its own.
func TestAServerThatIsNotThereIsToldOfOnce(t *testing.T) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	state := stateOf(model.ForwardDNAT, "203.0.113.10:80", []model.Backend{host}, netip.MustParseAddrPort(c.LocalAddr().String()))
	var log strings.Builder
	r := New(slog.New(slog.NewTextHandler(&log, nil)))
	for range 5 {
		time.Sleep(r.Refresh(t.Context(), state))
	}
	if n := strings.Count(log.String(), "name not found"); n != 1 {
		t.Errorf("%d lines, want 1:\n%s", n, log.String())
	}
}

func TestWhatDoesNotAnswerTheQuestionIsPassedOver(t *testing.T) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("app.test."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	for _, row := range []struct {
		name string
		edit func(*dnsmessage.Message)
		ours bool
	}{
		{"an answer", func(*dnsmessage.Message) {}, true},
		{"in other letters", func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("APP.test.") }, true},
		{"to another query", func(m *dnsmessage.Message) { m.ID++ }, false},
		{"a query", func(m *dnsmessage.Message) { m.Response = false }, false},
		{"to another name", func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("b.test.") }, false},
		{"to another type", func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAAAA }, false},
		{"to nothing", func(m *dnsmessage.Message) { m.Questions = nil }, false},
	} {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true}, Questions: []dnsmessage.Question{q}}
		row.edit(&m)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, ours, _ := parse(b, 7, q); ours != row.ours {
			t.Errorf("%s: ours is %v", row.name, ours)
		}
		for n := range b {
			if _, ours, err := parse(b[:n], 7, q); ours && err == nil && n < 12 {
				t.Errorf("%s: the first %d bytes are an answer", row.name, n)
			}
		}
	}
}

func TestServersOfTheSystem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	const text = "# nameserver 10.0.0.9\nsearch test\nnameserver 10.0.0.1\nnameserver 2001:db8::1 x\nnameserver nonsense\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:53"), netip.MustParseAddrPort("[2001:db8::1]:53")}
	if got := systemServers(path); !slices.Equal(got, want) {
		t.Errorf("servers %v, want %v", got, want)
	}
	if got := systemServers(path + "x"); len(got) != 1 || got[0].String() != "127.0.0.1:53" {
		t.Errorf("servers %v without a file", got)
	}
}
