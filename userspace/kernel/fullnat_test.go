package kernel

import (
	"net/netip"
	"slices"
	"testing"

	"fairlead/testenv"
	"fairlead/userspace/host"
	"fairlead/userspace/model"
)

// Of a mixed list each family has its part; a family that has none follows the
// host's routes.
func TestBackendsSeeSourcesOfTheirFamily(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 1, IPv6: true})
	four, six := r.BackendAddrs[0], testenv.Six(r.BackendAddrs[0])
	other4, other6 := netip.MustParseAddr("10.2.1.9"), netip.MustParseAddr("2001:db8:2:1::9")
	for _, row := range []struct {
		given   []netip.Addr
		backend netip.Addr
		want    netip.Addr
	}{
		{nil, four, four.Prev()},
		{nil, six, six.Prev()},
		{[]netip.Addr{other4, other6}, four, other4},
		{[]netip.Addr{other4, other6}, six, other6},
		{[]netip.Addr{other4}, six, six.Prev()},
		{[]netip.Addr{other6}, four, four.Prev()},
	} {
		r.Balancer.Do(t, func() error {
			got, err := sourcesOf(new(host.Routes), model.FullNAT{Addresses: row.given}, row.backend)
			if err != nil || !slices.Equal(got, []netip.Addr{row.want}) {
				t.Errorf("given %v, backend %s sees %v, %v, want %s", row.given, row.backend, got, err, row.want)
			}
			return nil
		})
	}
}
