package access

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/testenv/leak"
	"fairlead/userspace/model"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

func networks(list ...string) (all []netip.Prefix) {
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

func TestTheLongestPrefixDecides(t *testing.T) {
	deny := model.Clients{Deny: networks("10.0.0.0/8", "192.0.2.7/32")}
	both := model.Clients{Allow: networks("10.0.0.0/8", "10.1.2.0/24"), Deny: networks("10.1.0.0/16", "10.1.2.3/32")}
	all := model.Clients{Allow: networks("0.0.0.0/0"), Deny: networks("10.0.0.0/8")}
	six := model.Clients{Allow: networks("2001:db8::/32"), Deny: networks("2001:db8:1::/48", "2001:db8::7/128")}
	for _, row := range []struct {
		name    string
		clients model.Clients
		client  string
		want    model.Admission
	}{
		{"no list lets everybody in", model.Clients{}, "192.0.2.1", model.Admitted},
		{"denied network", deny, "10.200.0.1", model.Denied},
		{"denied address", deny, "192.0.2.7", model.Denied},
		{"not denied", deny, "192.0.2.8", model.Admitted},
		{"written as IPv6", deny, "::ffff:10.0.0.1", model.Denied},
		{"allowed", both, "10.2.0.1", model.Admitted},
		{"denied within what is allowed", both, "10.1.3.1", model.Denied},
		{"allowed within that", both, "10.1.2.4", model.Admitted},
		{"denied within that", both, "10.1.2.3", model.Denied},
		{"not allowed", both, "11.0.0.1", model.Denied},
		{"allowed with everybody", all, "192.0.2.1", model.Admitted},
		{"denied of everybody", all, "10.0.0.1", model.Denied},
		{"allowed of IPv6", six, "2001:db8:2::7", model.Admitted},
		{"denied of IPv6", six, "2001:db8:1::1", model.Denied},
		{"denied address of IPv6", six, "2001:db8::7", model.Denied},
		{"not allowed of IPv6", six, "2001:db9::1", model.Denied},
		{"not denied of IPv6", model.Clients{Deny: six.Deny}, "2001:db9::1", model.Admitted},
	} {
		if got := New(row.clients).Admit(netip.MustParseAddr(row.client), time.Now()); got != row.want {
			t.Errorf("%s: %s is given %d, want %d", row.name, row.client, got, row.want)
		}
	}
}

// limited returns a guard and a function that returns how many of n flows of a
// client it admits some time after the guard was made.
func limited(t *testing.T, l model.Limit) (*Guard, func(client string, after time.Duration, n int) int) {
	t.Helper()
	g, start := New(model.Clients{Limit: l}), time.Now()
	return g, func(client string, after time.Duration, n int) (admitted int) {
		for range n {
			switch g.Admit(netip.MustParseAddr(client), start.Add(after)) {
			case model.Admitted:
				admitted++
			case model.Denied:
				t.Errorf("%s is denied", client)
			}
		}
		return admitted
	}
}

func TestEachNetworkHasABurstAndThenARate(t *testing.T) {
	_, admitted := limited(t, model.Limit{Rate: 2, Burst: 5, Prefix: 24})
	for _, step := range []struct {
		client string
		after  time.Duration
		want   int
	}{
		{"10.0.0.1", 0, 5},
		{"10.0.0.2", 0, 0}, // the same network
		{"10.0.1.1", 0, 5}, // another one
		{"10.0.0.1", 499 * time.Millisecond, 0},
		{"10.0.0.2", 500 * time.Millisecond, 1},
		{"10.0.0.1", 1999 * time.Millisecond, 2},
		{"10.0.0.1", 2000 * time.Millisecond, 1}, // what was left over counts
		{"10.0.0.1", 1000 * time.Millisecond, 0}, // a clock that was read earlier
		{"10.0.0.1", 2500 * time.Millisecond, 1},
		{"10.0.0.1", time.Hour, 5},
		{"10.0.0.1", 1 << 62, 5}, // not too long
	} {
		if got := admitted(step.client, step.after, 10); got != step.want {
			t.Errorf("after %v: %d flows of %s are admitted, want %d", step.after, got, step.client, step.want)
		}
	}
}

func TestNetworksOfIPv6HaveLimits(t *testing.T) {
	_, admitted := limited(t, model.Limit{Rate: 2, Burst: 5, Prefix: 64})
	for i, step := range []struct {
		client string
		want   int
	}{{"2001:db8::1", 5}, {"2001:db8::ffff:0:1", 0}, {"2001:db8:0:1::1", 5}} {
		if got := admitted(step.client, 0, 10); got != step.want {
			t.Errorf("step %d: %d flows of %s are admitted, want %d", i, got, step.client, step.want)
		}
	}
}

func TestBoundsOfLimits(t *testing.T) {
	_, most := limited(t, model.Limit{Rate: 1e6, Burst: 1e6, Prefix: 8})
	if got := most("10.0.0.1", 0, 1e6+1); got != 1e6 {
		t.Errorf("%d flows at once, want 1000000", got)
	}
	if got := most("10.0.0.1", 3*time.Microsecond, 10); got != 3 {
		t.Errorf("%d flows in 3 µs, want 3", got)
	}
	_, least := limited(t, model.Limit{Rate: 3, Burst: 1, Prefix: 32})
	for i, want := range []int{1, 0, 0, 1, 0, 0, 1} { // a third of a second is no number of nanoseconds
		if got := least("10.0.0.1", time.Duration(i)*time.Second/9+time.Duration(i), 2); got != want {
			t.Errorf("%d flows at %d/9 s, want %d", got, i, want)
		}
	}
}

func TestTheNetworkThatWasSilentLongestIsForgotten(t *testing.T) {
	g, admitted := limited(t, model.Limit{Rate: 1, Burst: 1, Prefix: 32})
	first, second := "10.0.0.0", "10.0.0.1"
	addr := netip.MustParseAddr(first)
	for range MaxNetworks {
		g.Admit(addr, time.Now())
		addr = addr.Next()
	}
	if got := admitted(first, 0, 1); got != 0 {
		t.Error("forgotten without need")
	}
	g.Admit(addr, time.Now()) // one too many
	if got := admitted(first, 0, 1); got != 0 {
		t.Error("the one that was just seen is forgotten")
	}
	if got := admitted(second, 0, 1); got != 1 {
		t.Error("the one that was silent longest is not forgotten")
	}
	if len(g.sources) != MaxNetworks || g.recent.Len() != MaxNetworks {
		t.Errorf("%d networks are remembered, %d in order", len(g.sources), g.recent.Len())
	}
}

func TestManyAskAtOnce(t *testing.T) {
	g := New(model.Clients{Deny: networks("192.0.2.0/24"), Limit: model.Limit{Rate: 1, Burst: 100, Prefix: 24}})
	now := time.Now()
	var admitted, denied atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				client := netip.AddrFrom4([4]byte{10, 0, 0, byte(rand.IntN(256))})
				if g.Admit(client, now) == model.Admitted {
					admitted.Add(1)
				}
				if g.Admit(netip.MustParseAddr("192.0.2.1"), now) == model.Denied {
					denied.Add(1)
				}
			}
		})
	}
	all.Wait()
	if admitted.Load() != 100 || denied.Load() != 1600 {
		t.Errorf("%d admitted, %d denied, want 100 and 1600", admitted.Load(), denied.Load())
	}
}
