package kernel

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
)

func foresee(t *testing.T, r *testenv.Rig, dir string, state *model.State) (p *Plan) {
	t.Helper()
	r.Balancer.Do(t, func() (err error) {
		p, err = Foresee(t.Context(), dir, state, Told{})
		return err
	})
	return p
}

func wantNoChanges(t *testing.T, r *testenv.Rig, dir string, state *model.State) {
	t.Helper()
	if p := foresee(t, r, dir, state); !p.Empty() {
		t.Errorf("what was applied would change: %+v", p)
	}
}

func TestWhatIsForeseenComes(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{})
	dir, state := pins(t), stateOf(r)
	all := state.Interfaces
	state.Interfaces = all[:3]
	p := foresee(t, r, dir, state)
	if p.Attached || p.Empty() || len(p.Interfaces) != 3 || len(p.Services) != 1 || p.Services[0].Change != datapath.Added {
		t.Errorf("with nothing attached: %+v", p)
	}
	comparable := cmpopts.EquateComparable(netip.Addr{})
	added := []AddressChange{{vip, "lo", datapath.Added}}
	if diff := cmp.Diff(added, p.Addresses, comparable); diff != "" {
		t.Errorf("addresses at first (-want +got):\n%s", diff)
	}
	attached(t, r, state, Options{Dir: dir})
	wantNoChanges(t, r, dir, state)

	other := netip.MustParseAddr("203.0.113.20")
	state.Interfaces = all
	first := state.Services[0]
	state.Services = nil
	for port := uint16(1000); port < 1030; port++ {
		s := first
		s.Name, s.Listen, s.LastPort = "more", netip.AddrPortFrom(other, port), port
		state.Services = append(state.Services, s)
	}
	p = foresee(t, r, dir, state)
	if diff := cmp.Diff([]InterfaceChange{{all[3], datapath.Added}}, p.Interfaces); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
	addresses := []AddressChange{{other, "lo", datapath.Added}, {vip, "", datapath.Removed}}
	if diff := cmp.Diff(addresses, p.Addresses, comparable); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	before := dump(t, dir)
	if again := foresee(t, r, dir, state); !cmp.Equal(again, p, comparable) || !slices.Equal(before, dump(t, dir)) {
		t.Error("looking ahead has changed something")
	}
	_, report := attached(t, r, state, Options{Dir: dir})
	var grown []loader.Growth
	for _, m := range p.Maps {
		grown = append(grown, loader.Growth{Map: m.Name, From: m.From, To: m.To})
	}
	if diff := cmp.Diff(report.Grown, grown); diff != "" || len(grown) == 0 {
		t.Errorf("maps (-grown +foreseen):\n%s", diff)
	}
	wantNoChanges(t, r, dir, state)
	detach(t, r, dir)
}

func TestBesideAnAgentInterfacesAreTakenOut(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{})
	dir, state := pins(t), stateOf(r)
	lock, err := loader.LockAgent(t.Context(), dir, "digest")
	if err != nil {
		t.Fatal(err)
	}
	attached(t, r, state, Options{Dir: dir, Agent: true})
	last := state.Interfaces[3]
	state.Interfaces = state.Interfaces[:3]
	p := foresee(t, r, dir, state)
	if diff := cmp.Diff([]InterfaceChange{{last, datapath.Removed}}, p.Interfaces); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
	if len(p.Services) != 1 || !slices.Contains(p.Services[0].Fields, datapath.FieldChange{Field: "rung", From: "xdp", To: "proxy"}) {
		t.Errorf("services %+v, want the proxy's rung, as a backend is behind %s", p.Services, last)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	wantNoChanges(t, r, dir, state)
	detach(t, r, dir)
}

// dump returns the entries of every map that a configuration, or who applies
// one, writes to.
func dump(t *testing.T, dir string) (all []string) {
	t.Helper()
	inst, err := loader.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close()
	m := inst.Maps()
	for i, each := range []*ebpf.Map{
		m.Control, m.Listeners, m.VIPs, m.Services, m.Backends, m.Slots, m.Turns, m.Flows, m.Standby,
		m.Devices, m.Clients, m.Snat, m.ServiceBase, m.BackendBase, m.ServiceNames, m.Journal,
	} {
		var key, value []byte
		entries := each.Iterate()
		for entries.Next(&key, &value) {
			all = append(all, fmt.Sprintf("%d %x %x", i, key, sha256.Sum256(value)))
		}
		if err := entries.Err(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	return all
}
