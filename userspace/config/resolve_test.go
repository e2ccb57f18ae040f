package config

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead/userspace/model"
)

func TestBackendsMayBeNames(t *testing.T) {
	port := func(n uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, n) }
	for _, row := range []struct {
		service, backend string
		want             model.Backend
	}{
		{"listen: 203.0.113.10:80", "address: App.example.com.:8080", model.Backend{Address: port(8080), Name: model.Name{Host: "app.example.com"}, Weight: 1}},
		{"listen: 203.0.113.10:80", "address: web:80, weight: 7", model.Backend{Address: port(80), Name: model.Name{Host: "web"}, Weight: 7}},
		{"listen: 203.0.113.10:80-90", "address: web", model.Backend{Address: port(0), Name: model.Name{Host: "web"}, Weight: 1}},
		{"listen: 203.0.113.10:80", "srv: _http._tcp.example.com", model.Backend{Name: model.Name{Host: "_http._tcp.example.com", SRV: true}, Weight: 1}},
		{"listen: 203.0.113.10:80\nforward: http", `url: "http://App.test/a"`, model.Backend{
			Address: port(80), Name: model.Name{Host: "app.test"}, Weight: 1, Origin: model.Origin{Prefix: "/a"},
		}},
	} {
		s, err := Parse("f", []byte(serviceFile(row.service+"\nbackends: [{"+row.backend+"}]")))
		if err != nil {
			t.Error(err)
			continue
		}
		group := s.Groups()[len(s.Groups())-1]
		if diff := cmp.Diff(row.want, group.Backends[0], cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.backend, diff)
		}
		if want := time.Minute; group.Forward != model.ForwardHTTP && group.Drain != want {
			t.Errorf("%s: a drain of %s, want %s", row.backend, group.Drain, want)
		}
	}
}

func TestHowNamesAreLookedUp(t *testing.T) {
	s, err := Parse("f", []byte(`{services: [], resolver: {servers: [10.0.0.53, "[2001:db8::53]:5353", 2001:db8::1], timeout: 1s, min-ttl: 10m}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := model.Resolver{
		Servers: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.53:53"), netip.MustParseAddrPort("[2001:db8::53]:5353"), netip.MustParseAddrPort("[2001:db8::1]:53")},
		Timeout: time.Second, MinTTL: 10 * time.Minute, MaxTTL: 10 * time.Minute,
	}
	if diff := cmp.Diff(want, s.Resolver, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("resolver (-want +got):\n%s", diff)
	}
}
