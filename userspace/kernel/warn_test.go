package kernel

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"fairlead/testenv"
	"fairlead/userspace/model"
)

func TestAddressOnTheWrongInterfaceIsWarnedOf(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 1, IPv6: true})
	state := stateOf(r)
	state.Services = append(state.Services, onClientsLink(r, state.Services[0]))
	r.Balancer.Do(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		vip := net.IP(state.Services[1].Listen.Addr().AsSlice())
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: vip, Mask: net.CIDRMask(128, 128)}})
	})
	for _, policy := range []model.AddressPolicy{model.AddressesLeave, model.AddressesAdd} {
		state.Addresses = policy // it is the administrator's anyway, and stays
		r.Balancer.Do(t, func() error {
			lines, err := Warnings(state, state.Interfaces)
			got := slices.ContainsFunc(lines, func(l string) bool {
				return strings.Contains(l, "is on the link of client1, but not on that interface")
			})
			if !got {
				t.Errorf("addresses: %s: not warned: %q", policy, lines)
			}
			return err
		})
	}
}

func TestAddressThatCannotBeAddedIsWarnedOf(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 1, IPv6: true})
	state := stateOf(r)
	state.Services = append(state.Services, onClientsLink(r, state.Services[0]))
	for _, disabled := range []string{"0", "1"} {
		r.Balancer.Sysctl(t, "net.ipv6.conf.client1.disable_ipv6", disabled)
		r.Balancer.Sysctl(t, "net.ipv6.conf.lo.disable_ipv6", disabled)
		r.Balancer.Do(t, func() error {
			lines, err := Warnings(state, state.Interfaces)
			got := slices.Contains(lines, "cannot add service address 2001:db8:1:1::80 to lo: IPv6 is disabled there: run: sysctl -w net.ipv6.conf.lo.disable_ipv6=0")
			if want := disabled == "1"; got != want {
				t.Errorf("disable_ipv6=%s: warned %t, want %t: %q", disabled, got, want, lines)
			}
			return err
		})
	}
}
