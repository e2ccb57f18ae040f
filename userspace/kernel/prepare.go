package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"fairlead/loader"
	"fairlead/userspace/host"
	"fairlead/userspace/model"
)

// Digest names the contents of a state, equal for equal ones, but for what the
// command line may replace: interfaces and mode.
func Digest(state *model.State) string {
	s := *state
	s.Interfaces, s.XDP = nil, ""
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
		known := slices.ContainsFunc(j.Sysctls, func(o loader.JournalSysctl) bool { return o.Name == s.Name })
		if !known {
			j.Sysctls = append(j.Sysctls, loader.JournalSysctl{Name: s.Name, Old: "0", New: s.Value})
		}
	}
	if err := k.Maps().WriteJournal(j); err != nil {
		return err
	}
	crash("recorded sysctls")
	for _, s := range sysctls {
		if _, err := s.Set(); err != nil {
			return err
		}
		crash("set " + s.Name)
	}
	if err := k.setAddresses(state); err != nil {
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

// setAddresses puts the state's missing service addresses on the host and takes
// away those that it added for services that are no more.
func (k *Kernel) setAddresses(state *model.State) error {
	j, err := k.Maps().ReadJournal()
	if err != nil {
		return err
	}
	var want []netip.Addr
	if state.Addresses != model.AddressesLeave {
		want = addresses(state)
	}
	wanted, ours := setOf(want), setOf(k.opts.Added)
	for _, a := range j.Addresses {
		ours[a.Prefix.Addr()] = true
	}
	var ways host.Routes
	var missing []netip.Addr
	j.Addresses = nil
	for _, a := range want {
		local, err := ways.IsLocal(a)
		if err != nil {
			return err
		}
		if !local {
			missing = append(missing, a)
		}
		if ours[a] || !local {
			j.Addresses = append(j.Addresses, journalAddress(a))
		}
	}
	for a := range ours {
		if wanted[a] {
			continue
		}
		if err := host.RemoveAddress(a); err != nil {
			return err
		}
		crash("removed address")
	}
	// A command killed between adding and recording would leave the address.
	if err := k.Maps().WriteJournal(j); err != nil {
		return err
	}
	crash("recorded addresses")
	for _, a := range missing {
		if _, err := host.AddAddress(a); err != nil {
			return err
		}
		crash("added address")
	}
	return nil
}

func setOf(addrs []netip.Addr) map[netip.Addr]bool {
	set := map[netip.Addr]bool{}
	for _, a := range addrs {
		set[a] = true
	}
	return set
}

func journalAddress(a netip.Addr) loader.JournalAddress {
	return loader.JournalAddress{Interface: "lo", Prefix: netip.PrefixFrom(a, a.BitLen())}
}

// Added returns the addresses that the instance has put on the host.
func (k *Kernel) Added() ([]netip.Addr, error) {
	j, err := k.Maps().ReadJournal()
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, a := range j.Addresses {
		all = append(all, a.Prefix.Addr())
	}
	return all, nil
}

// KeepNeighbours has the kernel keep the Ethernet addresses of next hops known.
// It waits for those that it has just begun with, for at most wait, and warns
// of those that do not answer; 0 does neither.
func (k *Kernel) KeepNeighbours(ctx context.Context, state *model.State, wait time.Duration) error {
	hops, err := host.NextHops(backendAddresses(state))
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
		k.opts.Warn(fmt.Sprintf("next hop %s does not answer ARP; packets to it are dropped until it does", n.Addr))
	}
	return err
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
	for _, s := range j.Sysctls {
		if !(host.Sysctl{Name: s.Name}).Exists() {
			continue // its interface is gone
		}
		_, err := host.Sysctl{Name: s.Name, Value: s.Old}.Set()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func removeAddresses(j loader.Journal) error {
	var errs []error
	for _, a := range j.Addresses {
		errs = append(errs, host.RemoveAddress(a.Prefix.Addr()))
		crash("removed address")
	}
	return errors.Join(errs...)
}
