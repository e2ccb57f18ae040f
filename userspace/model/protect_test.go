package model

import (
	"net/netip"
	"testing"
)

func TestTheLongestPrefixOfBothListsDecides(t *testing.T) {
	list := func(texts ...string) (all []netip.Prefix) {
		for _, p := range texts {
			all = append(all, netip.MustParsePrefix(p))
		}
		return all
	}
	both := Access{Allow: list("10.0.0.0/8", "10.1.2.0/24", "2001:db8::/32"), Deny: list("10.1.0.0/16", "2001:db8:1::/48")}
	for _, row := range []struct {
		name   string
		access Access
		client string
		want   bool
	}{
		{"no list lets everybody", Access{}, "192.0.2.1", true},
		{"who is denied may not", Access{Deny: list("192.0.2.1/32")}, "192.0.2.1", false},
		{"who is not denied may", Access{Deny: list("192.0.2.1/32")}, "192.0.2.2", true},
		{"nor is the other family", Access{Deny: list("0.0.0.0/0")}, "2001:db8::1", true},
		{"who is not allowed may not", both, "192.0.2.1", false},
		{"allowed", both, "10.2.0.1", true},
		{"denied within what is allowed", both, "10.1.3.1", false},
		{"allowed within that", both, "10.1.2.1", true},
		{"allowed of IPv6", both, "2001:db8:2::1", true},
		{"denied of IPv6", both, "2001:db8:1::1", false},
	} {
		if got := row.access.Permits(netip.MustParseAddr(row.client)); got != row.want {
			t.Errorf("%s: %s may: %t, want %t", row.name, row.client, got, row.want)
		}
	}
}
