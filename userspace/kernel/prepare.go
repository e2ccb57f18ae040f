package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"fairlead/loader"
	"fairlead/userspace/host"
	"fairlead/userspace/model"
)

// Digest names the contents of a state: equal for equal states.
func Digest(state *model.State) string {
	b, err := json.Marshal(state)
	if err != nil {
		panic(err) // a State is plain data
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// prepareHost makes the host fit for the state: forwarding, service addresses,
// neighbours. Each change stands in the journal before it is made.
func (k *Kernel) prepareHost(ctx context.Context, state *model.State, sysctls []host.Sysctl) error {
	if err := k.findInterfaces(); err != nil {
		return err
	}
	j, err := k.Maps().ReadJournal()
	if err != nil {
		return err
	}
	j.Config = loader.JournalConfig{Path: k.opts.Config, Digest: Digest(state)}
	for _, s := range sysctls {
		j.Sysctls = append(j.Sysctls, loader.JournalSysctl{Name: s.Name, Old: "0", New: s.Value})
	}
	if err := k.Maps().WriteJournal(j); err != nil {
		return err
	}
	for _, s := range sysctls {
		if _, err := s.Set(); err != nil {
			return err
		}
	}
	if err := k.setAddresses(state); err != nil {
		return err
	}
	return k.KeepNeighbours(ctx, state)
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
	var keep []loader.JournalAddress
	for _, a := range j.Addresses {
		if slices.Contains(want, a.Prefix.Addr()) {
			keep = append(keep, a)
		} else if err := host.RemoveAddress(a.Prefix.Addr()); err != nil {
			return err
		}
	}
	j.Addresses = keep
	var missing []netip.Addr
	for _, a := range want {
		local, err := host.IsLocal(a)
		if err != nil {
			return err
		}
		if !local {
			missing = append(missing, a)
			j.Addresses = append(j.Addresses, loader.JournalAddress{Interface: "lo", Prefix: netip.PrefixFrom(a, a.BitLen())})
		}
	}
	// A command killed between adding and recording would leave the address.
	if err := k.Maps().WriteJournal(j); err != nil {
		return err
	}
	for _, a := range missing {
		if _, err := host.AddAddress(a); err != nil {
			return err
		}
	}
	return nil
}

// KeepNeighbours has the kernel keep the Ethernet addresses of next hops known,
// and waits a second for those it has just begun with. Warns of those that do
// not answer.
func (k *Kernel) KeepNeighbours(ctx context.Context, state *model.State) error {
	hops, err := host.NextHops(backendAddresses(state))
	if err != nil {
		return err
	}
	j, err := k.Maps().ReadJournal()
	if err != nil {
		return err
	}
	var fresh []host.Neighbour
	for _, n := range hops {
		added, err := n.Manage()
		if err != nil {
			return err
		}
		if !added {
			continue
		}
		fresh = append(fresh, n)
		link, err := netlink.LinkByIndex(n.Ifindex)
		if err != nil {
			return fmt.Errorf("keep neighbour %s: %w", n.Addr, err)
		}
		entry := loader.JournalNeighbour{Interface: link.Attrs().Name, Address: n.Addr}
		if !slices.Contains(j.Neighbours, entry) {
			j.Neighbours = append(j.Neighbours, entry)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	// Recorded after: a managed neighbour that outlives its record is harmless.
	if err := k.Maps().WriteJournal(j); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, neighbourWait)
	defer cancel()
	unknown, err := host.AwaitNeighbours(ctx, fresh)
	for _, n := range unknown {
		k.opts.Warn(fmt.Sprintf("next hop %s does not answer ARP; packets to it are dropped until it does", n.Addr))
	}
	return err
}

// undo takes back what the journal says was changed on the host. What is gone
// already is no error.
func undo(j loader.Journal) error {
	var errs []error
	for _, a := range j.Addresses {
		errs = append(errs, host.RemoveAddress(a.Prefix.Addr()))
	}
	for _, n := range j.Neighbours {
		link, err := netlink.LinkByName(n.Interface)
		if err != nil {
			continue // its neighbours went with it
		}
		errs = append(errs, host.Neighbour{Ifindex: link.Attrs().Index, Addr: n.Address}.Release())
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
