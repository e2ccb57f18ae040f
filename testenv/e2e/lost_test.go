package e2e

import (
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"fairlead/testenv"
)

// TestAServerThatVanishesIsLeft has the connections of HTTP/2 to a server lead nowhere,
// without a word to anybody: one request may run into that, and not for long.
func TestAServerThatVanishesIsLeft(t *testing.T) {
	testenv.RequireRoot(t)
	if os.Getenv("FAIRLEAD_SLOW") == "" {
		t.Skip("it takes seconds; TestSharedConnectionsAreGivenUpSoon of httpproxy is the short version")
	}
	s := openShop(t, false)
	if _, err := s.Spread(0, web+"two/x", 30); err != nil {
		t.Fatal(err)
	}
	s.Backends[0].Do(t, func() error {
		l, err := netlink.LinkByName(testenv.Uplink)
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(l)
	})
	for range 6 {
		if a, err := s.Get(0, web+"two/x"); err != nil || a.Status != 200 {
			t.Errorf("answer %+v, error %v", a, err)
		}
	}
}
