package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"fairlead/loader"
	"fairlead/userspace/host"
	"fairlead/userspace/model"
)

// Digest names the contents of a state, equal for equal ones, but for what the
// configuration does not say, backends that leave and addresses of names, and what
// the command line may replace: interfaces and mode.
func Digest(state *model.State) string {
	s := *state
	s.Interfaces, s.XDP = nil, ""
	s.Services = slices.Clone(s.Services)
	for i := range s.Services {
		backends := &s.Services[i].Backends
		*backends = slices.DeleteFunc(slices.Clone(*backends), func(b model.Backend) bool { return b.Leaving })
		for b, x := range *backends {
			if x.Name.Host != "" {
				(*backends)[b] = model.Backend{Name: x.Name}
			}
		}
		*backends = slices.Compact(*backends)
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a State is plain data
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// prepareHost makes the host fit for the state: forwarding, service addresses,
// neighbours. Each change stands in the journal before it is made.
func (k *Kernel) prepareHost(ctx context.Context, state *model.State, sysctls []host.Sysctl, interfaces []loader.InterfaceReport) error {
	if err := k.findInterfaces(); err != nil {
		return err
	}
	j, err := k.Maps().ReadJournal()
	if err != nil {
		return err
	}
	j.Config = loader.JournalConfig{Path: k.opts.Config, Digest: Digest(state)}
	noteInterfaces(&j, interfaces)
	for _, s := range sysctls {
		old, err := s.Current()
		if err != nil {
			return err
		}
		known := slices.ContainsFunc(j.Sysctls, func(o loader.JournalSysctl) bool { return o.Name == s.Name })
		if !known {
			j.Sysctls = append(j.Sysctls, loader.JournalSysctl{Name: s.Name, Old: old, New: s.Value})
		}
	}
	if err := k.Maps().WriteJournal(j); err != nil {
		return err
	}
	crash("recorded sysctls")
	for _, s := range sysctls {
		if err := s.Set(); err != nil {
			return err
		}
		crash("set " + s.Name)
	}
	if err := k.KeepAddresses(state); err != nil {
		return err
	}
	if err := k.unplaced.Err(); err != nil && !k.opts.Agent {
		return err
	}
	return k.KeepNeighbours(ctx, state, neighbourWait)
}

// noteInterfaces records why interfaces are not attached in native mode, and
// tells those that were attached before what was recorded then.
func noteInterfaces(j *loader.Journal, reports []loader.InterfaceReport) {
	known := j.Interfaces
	j.Interfaces = nil
	for i := range reports {
		r := &reports[i]
		at := slices.IndexFunc(known, func(n loader.JournalInterface) bool { return n.Name == r.Name && n.Mode == r.Mode })
		if r.Already && at >= 0 {
			r.Reason = known[at].Reason
		}
		j.Interfaces = append(j.Interfaces, loader.JournalInterface{Name: r.Name, Mode: r.Mode, Reason: r.Reason})
	}
}

// findInterfaces notes what is attached, and how.
func (k *Kernel) findInterfaces() error {
	links, err := k.inst.Links()
	if err != nil {
		return err
	}
	k.interfaces, k.native = map[string]bool{}, false
	for _, l := range links {
		if l.Index != 0 {
			k.interfaces[l.Interface] = true
			k.native = k.native || l.Mode == loader.AttachNative
		}
	}
	return nil
}

// KeepAddresses puts the state's missing service addresses on the host, and its
// own where they belong by now, and takes away those that it added for services
// that are no more. Those that cannot be put are no error: the next
// [Kernel.Reconcile] says so of their services.
func (k *Kernel) KeepAddresses(state *model.State) error {
	j, err := k.Maps().ReadJournal()
	if err != nil {
		return err
	}
	look, err := host.LookAtAddresses()
	if err != nil {
		return err
	}
	was := j.Addresses
	var over []netip.Addr
	if j.Addresses, over, err = planAddresses(look, state, was, k.opts.Added); err != nil {
		return err
	}
	for _, a := range over {
		if err := look.Remove(a); err != nil {
			return err
		}
		crash("removed address")
	}
	// A command killed between adding and recording would leave the address.
	if !slices.Equal(was, j.Addresses) {
		if err := k.Maps().WriteJournal(j); err != nil {
			return err
		}
	}
	crash("recorded addresses")
	k.unplaced = PutAddresses(look, journaled(j))
	return nil
}

// planAddresses returns the addresses that are to be on the host as ours, and
// those of ours (recorded, or added by the caller) that are over.
func planAddresses(look *host.Addresses, state *model.State, recorded []loader.JournalAddress, added []netip.Addr) (
	keep []loader.JournalAddress, over []netip.Addr, err error,
) {
	var want []netip.Addr
	if state.Addresses != model.AddressesLeave {
		want = addresses(state)
	}
	wanted, ours := setOf(want), setOf(added)
	for _, a := range recorded {
		ours[a.Prefix.Addr()] = true
	}
	for _, a := range want {
		local, err := look.IsLocal(a)
		if err != nil {
			return nil, nil, err
		}
		if !ours[a] && local {
			continue
		}
		home, err := look.Home(a)
		if err != nil {
			return nil, nil, err
		}
		keep = append(keep, loader.JournalAddress{Interface: home, Prefix: netip.PrefixFrom(a, a.BitLen())})
	}
	for a := range ours {
		if !wanted[a] {
			over = append(over, a)
		}
	}
	return keep, over, nil
}

// Unplaced says of addresses why the host does not take them.
type Unplaced map[netip.Addr]error

// Err returns all of it as one error, nil if there is nothing.
func (u Unplaced) Err() error {
	var errs []error
	for _, a := range slices.SortedFunc(maps.Keys(u), netip.Addr.Compare) {
		errs = append(errs, u[a])
	}
	return errors.Join(errs...)
}

// PutAddresses puts service addresses that are the caller's where they belong,
// and returns those that cannot be.
func PutAddresses(look *host.Addresses, addrs []netip.Addr) Unplaced {
	unplaced := Unplaced{}
	for _, a := range addrs {
		if err := look.Put(a); err != nil {
			unplaced[a] = err
		}
		crash("added address")
	}
	return unplaced
}

// journaled returns the addresses that a journal names.
func journaled(j loader.Journal) []netip.Addr {
	all := make([]netip.Addr, len(j.Addresses))
	for i, a := range j.Addresses {
		all[i] = a.Prefix.Addr()
	}
	return all
}

func setOf(addrs []netip.Addr) map[netip.Addr]bool {
	set := map[netip.Addr]bool{}
	for _, a := range addrs {
		set[a] = true
	}
	return set
}

// Added returns the addresses that the instance has put on the host.
func (k *Kernel) Added() ([]netip.Addr, error) {
	j, err := k.Maps().ReadJournal()
	return journaled(j), err
}

// KeepNeighbours has the kernel keep the Ethernet addresses of next hops known.
// It waits for those that it has just begun with, for at most wait, and warns
// of those that do not answer; 0 does neither.
func (k *Kernel) KeepNeighbours(ctx context.Context, state *model.State, wait time.Duration) error {
	hops, err := host.NextHops(backendAddresses(state), addresses(state))
	if err != nil {
		return err
	}
	fresh, err := host.Unmanaged(hops)
	if err != nil {
		return err
	}
	if err := k.recordNeighbours(hops, fresh); err != nil || len(fresh) == 0 {
		return err
	}
	crash("recorded neighbours")
	for _, n := range fresh {
		if err := n.Manage(); err != nil {
			return err
		}
		crash("managed neighbour")
	}
	if wait == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	unknown, err := host.AwaitNeighbours(limited, fresh)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, n := range unknown {
		k.opts.Warn(fmt.Sprintf("next hop %s does not answer %s; packets to it are dropped until it does", n.Addr, discovery(n.Addr)))
	}
	return err
}

// discovery names what finds out the Ethernet address of a next hop.
func discovery(a netip.Addr) string {
	if a.Is4() {
		return "ARP"
	}
	return "neighbour solicitations"
}

// recordNeighbours writes fresh into the journal, and releases those in it that
// are no next hop any more.
func (k *Kernel) recordNeighbours(hops, fresh []host.Neighbour) error {
	j, err := k.Maps().ReadJournal()
	if err != nil {
		return err
	}
	names := map[int]string{}
	entry := func(n host.Neighbour) (loader.JournalNeighbour, error) {
		if _, ok := names[n.Ifindex]; !ok {
			link, err := netlink.LinkByIndex(n.Ifindex)
			if err != nil {
				return loader.JournalNeighbour{}, fmt.Errorf("keep neighbour %s: interface %d: %w", n.Addr, n.Ifindex, err)
			}
			names[n.Ifindex] = link.Attrs().Name
		}
		return loader.JournalNeighbour{Interface: names[n.Ifindex], Address: n.Addr}, nil
	}
	wanted, had := map[loader.JournalNeighbour]bool{}, map[loader.JournalNeighbour]bool{}
	for _, n := range hops {
		e, err := entry(n)
		if err != nil {
			return err
		}
		wanted[e] = true
	}
	var keep []loader.JournalNeighbour
	for _, n := range j.Neighbours {
		had[n] = true
		if wanted[n] {
			keep = append(keep, n)
		} else if err := release(n); err != nil {
			return err
		}
	}
	changed := len(keep) != len(j.Neighbours)
	for _, n := range fresh {
		if e, _ := entry(n); !had[e] {
			keep, changed = append(keep, e), true
		}
	}
	if !changed {
		return nil
	}
	j.Neighbours = keep
	return k.Maps().WriteJournal(j)
}

// release ends the keeping of a neighbour. Its interface may be gone.
func release(n loader.JournalNeighbour) error {
	link, err := netlink.LinkByName(n.Interface)
	if err != nil {
		return nil // its neighbours went with it
	}
	return host.Neighbour{Ifindex: link.Attrs().Index, Addr: n.Address}.Release()
}

// undo takes back what the journal says was changed on the host. What is gone
// already is no error.
func undo(j loader.Journal) error {
	errs := []error{removeAddresses(j)}
	for _, n := range j.Neighbours {
		errs = append(errs, release(n))
	}
	for _, s := range slices.Backward(j.Sysctls) {
		if !(host.Sysctl{Name: s.Name}).Exists() {
			continue // its interface is gone
		}
		errs = append(errs, host.Sysctl{Name: s.Name, Value: s.Old}.Set())
	}
	return errors.Join(errs...)
}

func removeAddresses(j loader.Journal) error {
	look, err := host.LookAtAddresses()
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range j.Addresses {
		errs = append(errs, look.Remove(a.Prefix.Addr()))
		crash("removed address")
	}
	return errors.Join(errs...)
}
