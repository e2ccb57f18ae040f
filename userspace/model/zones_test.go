package model

import (
	"net/netip"
	"slices"
	"testing"
)

func TestClientZones(t *testing.T) {
	networks := map[netip.Prefix]string{}
	for text, zone := range map[string]string{
		"10.0.0.0/8": "us", "10.1.0.0/16": "eu", "10.1.2.3/32": "asia", "2001:db8:1::/48": "eu", "2001:db8:1::/64": "us",
	} {
		networks[netip.MustParsePrefix(text)] = zone
	}
	z := NewClientZones(networks)
	if want := []string{"asia", "eu", "us"}; !slices.Equal(z.Names(), want) {
		t.Fatalf("names %v, want %v", z.Names(), want)
	}
	for client, want := range map[string]int{
		"10.9.9.9": 3, "10.1.9.9": 2, "10.1.2.3": 1, "10.1.2.4": 2, "192.0.2.1": 0, "::ffff:10.1.9.9": 2,
		"2001:db8:1:1::1": 2, "2001:db8:1::1": 3, "2001:db8:2::1": 0, "::10.1.9.9": 0,
	} {
		if got := z.Find(netip.MustParseAddr(client)); got != want {
			t.Errorf("%s is in zone %d, want %d", client, got, want)
		}
	}
	var none *ClientZones
	if none.Find(netip.MustParseAddr("10.1.2.3")) != 0 || none.Names() != nil {
		t.Error("without networks some client is in a zone")
	}
	if none.Equal(z) || !none.Equal(nil) || !z.Equal(NewClientZones(networks)) || z.Equal(NewClientZones(nil)) {
		t.Error("equal says otherwise")
	}
}
