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
	for policy, want := range map[model.AddressPolicy]bool{model.AddressesLeave: true, model.AddressesAdd: false} {
		state.Addresses = policy
		r.Balancer.Do(t, func() error {
			lines, err := Warnings(state, state.Interfaces)
			got := slices.ContainsFunc(lines, func(l string) bool {
				return strings.Contains(l, "is on the link of client1, but not on that interface")
			})
			if got != want {
				t.Errorf("addresses: %s: warned %t, want %t: %q", policy, got, want, lines)
			}
			return err
		})
	}
}
