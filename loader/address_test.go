package loader

import (
	"net/netip"
	"testing"
)

func TestAddressesOfBothFamilies(t *testing.T) {
	for _, text := range []string{"203.0.113.10", "2001:db8::10", "::", "fe80::1"} {
		a := netip.MustParseAddr(text)
		if got := AddressOf(a).Addr(); got != a {
			t.Errorf("%v comes back as %v", a, got)
		}
	}
	mapped := AddressOf(netip.MustParseAddr("203.0.113.10"))
	if mapped != AddressOf(netip.MustParseAddr("::ffff:203.0.113.10")) || mapped.Word[0] != 0 || mapped.Word[1] != 0 {
		t.Errorf("an IPv4 address is written as %v, not mapped into IPv6", mapped)
	}
	if got := (Address{}).Addr(); got != netip.IPv6Unspecified() {
		t.Errorf("no address is %v, want ::", got)
	}
}
