package daemon

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/kernel"
	"fairlead/userspace/view"
)

// rungs returns whether the services of a view are on these rungs, and the last
// one has this in its reason.
func rungs(reason string, want ...view.Rung) func(view.View) bool {
	return func(v view.View) bool {
		for i, rung := range want {
			if v.Services[i].Rung != rung {
				return false
			}
		}
		last := v.Services[len(want)-1].Reason
		return strings.Contains(last, reason) && (reason != "" || last == "")
	}
}

func TestPortConflictOfFullNATLeavesTheOthersInXDP(t *testing.T) {
	b := newBench(t, 1)
	b.greetAll()
	nat := strings.Replace(b.service("nat", "tcp", 81), "protocol: tcp", "protocol: tcp, forward: full-nat", 1)
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80), nat)
	b.start()
	b.seen("native XDP", onRung(view.RungNative))
	other := b.Balancer.Listen(t, "tcp", ":20005")
	b.loseXDP()
	const fault = "full-nat: ports 10000-29999: a program of this host listens on tcp port 20005"
	b.seen("XDP but for full NAT", rungs(fault, view.RungNative, view.RungProxy))
	b.opened(80)
	b.opened(81)
	b.signal(syscall.SIGHUP) // who decides on a configuration is told
	b.logged("configuration not taken")
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	b.seen("full NAT again", rungs("", view.RungNative, view.RungNative))
	b.opened(81)
	b.stop()
}

func TestServiceAddressThatCannotBePutLeavesAllInXDP(t *testing.T) {
	b := newBenchOf(t, testenv.RigOptions{Backends: 1, IPv6: true})
	b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80), b.service6("six"))
	b.start()
	b.seen("native XDP", rungs("", view.RungNative, view.RungNative))
	b.Balancer.Sysctl(t, "net.ipv6.conf.lo.disable_ipv6", "1")
	const fault = "run: sysctl -w net.ipv6.conf.lo.disable_ipv6=0"
	b.seen("the fault", rungs(fault, view.RungNative, view.RungNative))
	b.loseXDP()
	b.seen("XDP again", rungs(fault, view.RungNative, view.RungNative))
	ctx, cancel := context.WithTimeout(t.Context(), stage.Patience)
	defer cancel()
	b.opened(80)
	c, err := b.Clients[0].DialContext(ctx, "tcp", "[2001:db8:ff::10]:80")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.Balancer.Sysctl(t, "net.ipv6.conf.lo.disable_ipv6", "0")
	b.seen("no fault", rungs("", view.RungNative, view.RungNative))
	b.stop()
}

// service6 is service with one backend, of IPv6, at port 80.
func (b *bench) service6(name string) string {
	b.t.Helper()
	return strings.NewReplacer(
		vip.String(), "[2001:db8:ff::10]", b.BackendAddrs[0].String(), "["+testenv.Six(b.BackendAddrs[0]).String()+"]",
	).Replace(b.service(name, "tcp", 80))
}

// TestSourcesOfIPv6FollowTheHost has the address that backends see become one
// that the host is not to use any more.
func TestSourcesOfIPv6FollowTheHost(t *testing.T) {
	b := newBenchOf(t, testenv.RigOptions{Backends: 1, IPv6: true})
	b.greetAll()
	b.configure(b.interfaces(), "services:\n", strings.Replace(b.service6("six"), "protocol:", "forward: full-nat, protocol:", 1))
	b.start()
	sees := func(want netip.Addr) {
		t.Helper()
		stage.Await(t, "backends to see "+want.String(), func() error {
			v, err := kernel.Status(b.opts.PinDir)
			if err != nil {
				return err
			}
			if got := v.Services[0].Backends[0].Sources; !slices.Equal(got, []netip.Addr{want}) {
				return fmt.Errorf("it sees %s", got)
			}
			return nil
		})
	}
	own := testenv.Six(b.BackendAddrs[0]).Prev()
	other := netip.MustParseAddr("2001:db8:2:1::99")
	set := func(a netip.Addr, preferred int) {
		t.Helper()
		b.Balancer.Do(t, func() error {
			l, err := netlink.LinkByName("backend1")
			if err != nil {
				return err
			}
			return netlink.AddrReplace(l, &netlink.Addr{
				IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD, ValidLft: math.MaxUint32, PreferedLft: preferred,
			})
		})
	}
	sees(own)
	set(other, math.MaxUint32)
	set(own, 0)
	sees(other)
	set(own, math.MaxUint32)
	set(other, 0)
	sees(own)
	b.stop()
}
