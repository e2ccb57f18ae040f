package balance

import (
	"net/netip"
	"testing"

	"fairlead/userspace/model"
)

// TestHashIsTheKernels has the numbers of docs/datapath.md, rule 3.
func TestHashIsTheKernels(t *testing.T) {
	for _, row := range []struct {
		name          string
		method        model.Method
		prefix        int
		client, local string
		want          uint64
	}{
		{"IPv4", model.Maglev, 0, "198.51.100.1:40000", "203.0.113.10:80", 0x8f6ef9696bf42744},
		{"IPv4, written as IPv6", model.Maglev, 0, "[::ffff:198.51.100.1]:40000", "[::ffff:203.0.113.10]:80", 0x8f6ef9696bf42744},
		{"IPv6", model.Maglev, 0, "[2001:db8::1]:40000", "[2001:db8::10]:443", 0x2cbafe6582660a1e},
		{"the network alone", model.SourceHash, 24, "198.51.100.1:40000", "203.0.113.10:80", 0x8c5d1e48f4dfefdc},
		{"another client of the network", model.SourceHash, 24, "198.51.100.77:5", "203.0.113.10:80", 0x8c5d1e48f4dfefdc},
	} {
		s := &model.Service{Protocol: model.TCP, Balance: model.Balance{Method: row.method, Seed: 7}, SourcePrefix: row.prefix}
		if got := Hash(s, netip.MustParseAddrPort(row.client), netip.MustParseAddrPort(row.local)); got != row.want {
			t.Errorf("%s: hash %#x, want %#x", row.name, got, row.want)
		}
	}
}
