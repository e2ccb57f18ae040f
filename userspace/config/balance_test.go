package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead/userspace/model"
)

func TestWaysToChoose(t *testing.T) {
	type service struct {
		Balance             model.Balance
		Prefix              int
		Affinity, Slow, End time.Duration
	}
	maglev := model.Balance{Method: model.Maglev, TableSize: 65537}
	sources := model.Balance{Method: model.SourceHash, TableSize: 65537}
	robin := model.Balance{Method: model.RoundRobin}
	for _, row := range []struct {
		name, text string
		want       service
	}{
		{"nothing", "", service{Balance: robin}},
		{"a word", "balance: maglev", service{Balance: maglev}},
		{"a word of two", "balance: least-connections", service{Balance: model.Balance{Method: model.LeastConnections}}},
		{"the method alone as a key", "balance: {method: p2c}", service{Balance: model.Balance{Method: model.P2C}}},
		{"everything of maglev", "balance: {method: maglev, table-size: 1021, seed: 7, max-load: 125}",
			service{Balance: model.Balance{Method: model.Maglev, TableSize: 1021, Seed: 7, MaxLoad: 125}}},
		{"source-hash by address", "balance: source-hash", service{Balance: sources, Prefix: 32}},
		{"source-hash by network", "balance: {method: source-hash, prefix: 24}", service{Balance: sources, Prefix: 24}},
		{"affinity", "affinity: {source: 10m}", service{Balance: robin, Prefix: 32, Affinity: 10 * time.Minute}},
		{"affinity by network", "affinity: {source: 1s, prefix: 16}", service{Balance: robin, Prefix: 16, Affinity: time.Second}},
		{"affinity by the network of source-hash", "balance: {method: source-hash, prefix: 24}\naffinity: {source: 1s}",
			service{Balance: sources, Prefix: 24, Affinity: time.Second}},
		{"times", "slow-start: 30s\ndrain: 60s", service{Balance: robin, Slow: 30 * time.Second, End: time.Minute}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, err := Parse("f", []byte(serviceFile(tcpService+row.text)))
			if err != nil {
				t.Fatal(err)
			}
			x := &s.Services[0]
			got := service{x.Balance, x.SourcePrefix, x.Affinity, x.SlowStart, x.Drain}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("service (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIPv6ClientsAreTakenTogetherBySixtyFourBits(t *testing.T) {
	text := strings.NewReplacer("203.0.113.10:80", `"[2001:db8::10]:80"`, "10.0.0.1:80", `"[2001:db8:2::2]:80"`).Replace(tcpService)
	s, err := Parse("f", []byte(serviceFile(text+"balance: source-hash")))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Services[0].SourcePrefix; got != 64 {
		t.Errorf("prefix %d, want 64", got)
	}
}

func TestWhoServesFirst(t *testing.T) {
	const text = `zone: east
services:
  - name: web
    listen: 203.0.113.10:80
    panic-threshold: 30
    zone-threshold: 70
    backends:
      - {address: 10.0.0.1:80, zone: east}
      - {address: 10.0.0.2:80, zone: west-2}
      - {address: 10.0.0.3:80, backup: true}
`
	s, err := Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	x := &s.Services[0]
	if x.Zone != "east" || x.PanicThreshold != 30 || x.ZoneThreshold != 70 {
		t.Errorf("zone %s, thresholds %d and %d", x.Zone, x.PanicThreshold, x.ZoneThreshold)
	}
	want := []model.Backend{backend("10.0.0.1:80", 1), backend("10.0.0.2:80", 1), backend("10.0.0.3:80", 1)}
	want[0].Zone, want[1].Zone, want[2].Backup = "east", "west-2", true
	if diff := cmp.Diff(want, x.Backends, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("backends (-want +got):\n%s", diff)
	}
}

func TestZonesOfClients(t *testing.T) {
	const text = `client-zones:
  west: [10.1.0.0/16, "2001:db8:1::/48"]
  east: [198.51.100.7]
services:
  - name: web
    listen: 203.0.113.10:80
    backends: [{address: 10.0.0.1:80, zone: west}, {address: 10.0.0.2:80}]
  - name: shop
    listen: 203.0.113.10:81
    backends: [{address: 10.0.0.1:80}]
`
	s, err := Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := model.NewClientZones(map[netip.Prefix]string{
		netip.MustParsePrefix("10.1.0.0/16"): "west", netip.MustParsePrefix("2001:db8:1::/48"): "west",
		netip.MustParsePrefix("198.51.100.7/32"): "east",
	})
	if !s.ClientZones.Equal(want) || s.Services[0].ClientZones != s.ClientZones {
		t.Errorf("zones %v, those of a service %v", s.ClientZones, s.Services[0].ClientZones)
	}
	if s.Services[1].ClientZones != nil {
		t.Error("a service without zones has those of clients")
	}
}
