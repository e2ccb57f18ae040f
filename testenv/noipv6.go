package testenv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// HideIPv6 lets the calling thread see the settings of a kernel without IPv6. It
// is for functions that [Host.In] and the like run, whose thread ends with them.
func HideIPv6() error {
	const settings = "/proc/sys/net/ipv6"
	if _, err := os.Stat(settings); errors.Is(err, fs.ErrNotExist) {
		return nil // it is one
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("none", settings, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("hide %s: %w", settings, err)
	}
	return nil
}
