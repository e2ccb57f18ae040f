package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead/userspace/model"
)

func backend(address string, weight int) model.Backend {
	if a, err := netip.ParseAddr(address); err == nil {
		return model.Backend{Address: netip.AddrPortFrom(a, 0), Weight: weight}
	}
	return model.Backend{Address: netip.MustParseAddrPort(address), Weight: weight}
}

func check(t *testing.T, path string, want model.State) {
	t.Helper()
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

func TestASmallFileGetsEveryDefault(t *testing.T) {
	check(t, "testdata/small.yaml", model.State{
		XDP: model.XDPAuto, Addresses: model.AddressesAdd, OnAgentLoss: model.LossKeep,
		FlowTable: 131072, ReplyLimit: 1000,
		Timeouts: model.Timeouts{
			TCPNew: 30 * time.Second, TCPEstablished: 2 * time.Hour, TCPFin: time.Minute,
			UDPNew: 30 * time.Second, UDPEstablished: 3 * time.Minute,
		},
		FullNAT: model.FullNAT{First: 10000, Last: 29999}, Resolver: model.Resolver{}.WithDefaults(),
		Services: []model.Service{{
			Name: "web", Listen: netip.MustParseAddrPort("203.0.113.10:80"), LastPort: 80,
			Protocol: model.TCP, Forward: model.ForwardDNAT, Balance: model.Balance{Method: model.RoundRobin}, OnDown: model.DownReset, PanicThreshold: 50, ZoneThreshold: 50, PassiveThreshold: 1, PassiveResets: 10,
			Backends: []model.Backend{backend("10.0.0.1:8080", 1)},
			Health:   model.Check{Type: model.CheckTCP, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
		}},
	})
}

func TestAFileThatSaysEverything(t *testing.T) {
	check(t, "testdata/full.yaml", model.State{
		Interfaces: []string{"eth0", "eth1.100"},
		Admin: model.Admin{
			Write:  model.Identities{Users: []string{"root", "1000"}, Groups: []string{"root"}, Certificates: []string{"ops.example"}},
			Read:   model.Identities{Users: []string{"1001"}, Groups: []string{"1002"}, Certificates: []string{"CN=monitor,O=Example"}},
			Listen: ":9443", Cert: "testdata/site.pem", Key: "testdata/site.key", ClientCA: "testdata/site.pem",
		},
		XDP: model.XDPNative, Addresses: model.AddressesLeave, OnAgentLoss: model.LossAllUp,
		FlowTable: 1024, ReplyLimit: 50,
		AccessLog: model.AccessLog{File: "/var/log/access", Format: "{client} {status}"},
		FlowLog:   model.FlowLog{File: "/var/log/flows", Sample: 100},
		Tracing:   model.Tracing{Endpoint: "http://127.0.0.1:4318", Sample: 10},
		Timeouts: model.Timeouts{
			TCPNew: time.Second, TCPEstablished: 24 * time.Hour, TCPFin: 10 * time.Second,
			UDPNew: 5 * time.Second, UDPEstablished: 90 * time.Second,
		},
		FullNAT: model.FullNAT{
			Addresses: []netip.Addr{netip.MustParseAddr("10.2.1.1"), netip.MustParseAddr("10.2.1.3")}, First: 1024, Last: 65535,
		},
		Resolver: model.Resolver{}.WithDefaults(),
		Services: []model.Service{
			{
				Name: "media-1", Listen: netip.MustParseAddrPort("203.0.113.10:8000"), LastPort: 8100,
				Protocol: model.TCP, Forward: model.ForwardProxy, Balance: model.Balance{Method: model.RoundRobin}, OnDown: model.DownKeep, PanicThreshold: 0, ZoneThreshold: 50, PassiveThreshold: 7, PassiveResets: 70,
				Clients: model.Clients{
					Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("198.51.100.7/32"), netip.MustParsePrefix("0.0.0.0/0")},
					Deny:  []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
					Limit: model.Limit{Rate: 1000000, Burst: 7, Prefix: 24},
				},
				Backends: []model.Backend{backend("10.0.0.1", 3), backend("10.0.0.2", 0), backend("10.0.0.3", 1000)},
				Health: model.Check{
					Type: model.CheckHTTP, Interval: 500 * time.Millisecond, Timeout: 250 * time.Millisecond, Rise: 1, Fall: 5,
					Port: 9000, Path: "/health", Host: "media.example", Headers: []model.Header{{Name: "X-Check", Value: "1"}},
					Statuses: []model.StatusRange{{Min: 200, Max: 204}}, Expect: "ok",
				},
			},
			{
				Name: "dns", Listen: netip.MustParseAddrPort("203.0.113.10:8053"), LastPort: 8053,
				Protocol: model.UDP, Forward: model.ForwardFullNAT, Balance: model.Balance{Method: model.RoundRobin}, OnDown: model.DownReset, PanicThreshold: 50, ZoneThreshold: 50, PassiveThreshold: 1, PassiveResets: 10,
				Clients:  model.Clients{Limit: model.Limit{Rate: 600000, Burst: 1000000, Prefix: 32}},
				Backends: []model.Backend{backend("10.0.0.1:53", 1)},
				Health:   model.Check{Type: model.CheckNone},
			},
		},
	})
}

func TestAServiceOfIPv6(t *testing.T) {
	got, err := Load("testdata/ipv6.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := model.Service{
		Name: "web6", Listen: netip.MustParseAddrPort("[2001:db8::10]:8000"), LastPort: 8100,
		Protocol: model.TCP, Forward: model.ForwardDNAT, Balance: model.Balance{Method: model.RoundRobin}, OnDown: model.DownReset, PanicThreshold: 50, ZoneThreshold: 50, PassiveThreshold: 1, PassiveResets: 10,
		Clients: model.Clients{
			Allow: []netip.Prefix{netip.MustParsePrefix("2001:db8:5::/48"), netip.MustParsePrefix("2001:db8:6::7/128")},
			Limit: model.Limit{Rate: 10, Burst: 20, Prefix: 64},
		},
		Backends: []model.Backend{backend("[2001:db8:2::2]:8080", 1), backend("2001:db8:2::3", 1)},
		Health:   model.Check{Type: model.CheckTCP, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3, Port: 8080},
	}
	if diff := cmp.Diff(want, got.Services[0], cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Errorf("service (-want +got):\n%s", diff)
	}
	if want, got := "[2001:db8::10]:8000-8100", got.Services[0].ListenText(); got != want {
		t.Errorf("listens on %s, want %s", got, want)
	}
	if want, got := "[2001:db8:2::3]:*", got.Services[0].Backends[1].String(); got != want {
		t.Errorf("backend is %s, want %s", got, want)
	}
}

func TestTheSampleParses(t *testing.T) {
	s, err := Load("../../deploy/fairlead.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Services) != 4 {
		t.Errorf("%d services, want 4", len(s.Services))
	}
}

func TestNoServicesMayBeAsked(t *testing.T) {
	s, err := Parse("f", []byte("services: []"))
	if err != nil || len(s.Services) != 0 {
		t.Errorf("state %+v, error %v", s, err)
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, path := range append(files, "../../deploy/fairlead.yaml") {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(serviceFile(tcpService + "health: {type: https, headers: {a: b}, status: 200-399, skip-verify: true}")))
	f.Add([]byte(serviceFile(ranged + "health: {type: exec, command: [a, b]}")))
	f.Add([]byte("? [a]\n: b\n"))
	f.Add([]byte("\xff\xfea\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("f", data)
		if err != nil {
			checkFaults(t, err)
			return
		}
		keys, names := map[model.Key]bool{}, map[string]bool{}
		for _, x := range s.Groups() {
			isPool, routes := !x.Listen.IsValid(), len(x.HTTP.Routes)+len(x.Names) > 0
			if keys[x.Key()] || names[x.Name] && !isPool {
				t.Errorf("%s is there twice", x.Name)
			}
			keys[x.Key()], names[x.Name] = true, true
			if x.Name == "" || !isPool && (x.Listen.Port() == 0 || x.LastPort < x.Listen.Port()) || len(x.Backends) > 0 && routes || len(x.Backends) == 0 && !routes && s.Registration == nil || x.Health.Timeout > x.Health.Interval {
				t.Errorf("service %+v is not valid", x)
			}
			l := x.Clients.Limit
			if l != (model.Limit{}) && (min(l.Rate, l.Burst) < 1 || max(l.Rate, l.Burst) > 1e6 || l.Prefix < 8 || l.Prefix > 128) {
				t.Errorf("limit %+v is not valid", l)
			}
		}
	})
}

// checkFaults checks that err is made of nothing but faults of one line each.
func checkFaults(t *testing.T, err error) {
	t.Helper()
	list := []error{err}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		list = many.Unwrap()
	}
	if got := lines(err); len(got) != len(list) {
		t.Errorf("%d faults in %d lines:\n%s", len(list), len(got), err)
	}
	for _, e := range list {
		var f Fault
		if !errors.As(e, &f) || f.Line < 1 || f.Column < 1 || f.Text == "" {
			t.Errorf("%#v is not a fault with a place", e)
		}
	}
}
