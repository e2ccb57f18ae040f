package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"fairlead/userspace/host"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
)

// addressesFile, in the run directory, names the service addresses that the
// agent has put on the host, so that the next one can take away what a killed
// one left. While XDP runs they stand in the kernel part's journal instead.
const addressesFile = "addresses.json"

func (a *agent) addressesPath() string { return filepath.Join(a.opts.RunDir, addressesFile) }

// inheritAddresses takes over what an agent that was killed had added.
func (a *agent) inheritAddresses() error {
	data, err := os.ReadFile(a.addressesPath())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	var added []netip.Addr
	if err == nil {
		err = json.Unmarshal(data, &added)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w; remove the file, and the service addresses that it names", a.addressesPath(), err)
	}
	for _, addr := range added {
		local, err := host.IsLocal(addr)
		if err != nil {
			return err
		}
		if local {
			a.added = append(a.added, addr)
		}
	}
	return nil
}

// ownAddresses makes addrs the ones that the agent has to take away at its end.
func (a *agent) ownAddresses(addrs []netip.Addr) error {
	a.added = addrs
	if len(addrs) == 0 {
		err := os.Remove(a.addressesPath())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	}
	data, err := json.Marshal(addrs)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.opts.RunDir, 0o755); err != nil {
		return fmt.Errorf("record service addresses: %w", err)
	}
	temp := a.addressesPath() + ".new"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return fmt.Errorf("record service addresses: %w", err)
	}
	if err := os.Rename(temp, a.addressesPath()); err != nil {
		return fmt.Errorf("record service addresses: %w", err)
	}
	return nil
}

// setAddresses puts the service addresses on the host, where no kernel part
// does, if it may, and takes away those that it added for services that are no
// more. An error about some does not keep it from adding the others.
func (a *agent) setAddresses() error {
	if os.Geteuid() != 0 {
		return nil
	}
	wanted := map[netip.Addr]bool{}
	for i := range a.state.Services {
		addr := a.state.Services[i].Listen.Addr()
		if a.state.Addresses != model.AddressesLeave && !addr.IsUnspecified() {
			wanted[addr] = true
		}
	}
	look, err := host.LookAtAddresses()
	if err != nil {
		return err
	}
	var owned, missing []netip.Addr
	for _, addr := range a.added {
		if wanted[addr] {
			owned = append(owned, addr)
		} else if err := look.Remove(addr); err != nil {
			return err
		}
		delete(wanted, addr)
	}
	for addr := range wanted {
		local, err := look.IsLocal(addr)
		if err != nil {
			return err
		}
		if !local {
			missing = append(missing, addr)
		}
	}
	owned = append(owned, missing...)
	// A process killed between adding and recording would leave the address.
	if err := a.ownAddresses(owned); err != nil {
		return err
	}
	return kernel.PutAddresses(look, owned).Err()
}

// dropAddresses takes away what the agent has added. What belongs to another
// agent, or cannot be read, stays.
func (a *agent) dropAddresses() error {
	if !a.owns {
		return nil
	}
	look, err := host.LookAtAddresses()
	if err != nil {
		return err
	}
	var errs []error
	for _, addr := range a.added {
		if err := look.Remove(addr); err != nil && !errors.Is(err, unix.EPERM) {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return a.ownAddresses(nil)
}
