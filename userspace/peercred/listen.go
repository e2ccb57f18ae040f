package peercred

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// mode is what sockets have for their owner and, beside the allowed ones, group.
const mode = 0o660

// Listen makes a unix socket that its owner, its group and those that are allowed
// may connect to. A socket that is there is taken away: only the owner of its
// directory may call Listen. Close leaves the socket where it is, so that another
// process can go on with it.
func Listen(path string, a Allowed) (*net.UnixListener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("listen on unix %s: %w", path, err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on unix %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err := Allow(path, a); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(path))
	}
	return l, nil
}

// Allow has a socket be for others from now on.
func Allow(path string, a Allowed) error {
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("allow users of socket: %w", err)
	}
	if len(a.Users)+len(a.Groups) == 0 {
		return nil
	}
	if err := unix.Setxattr(path, "system.posix_acl_access", accessList(a), 0); err != nil {
		return fmt.Errorf("allow users of socket %s: set access list: %w", path, err)
	}
	return nil
}

// Tags of an access list in the form that the kernel takes; see linux/posix_acl.h
// and linux/posix_acl_xattr.h.
const (
	listVersion = 2
	tagOwner    = 0x01
	tagUser     = 0x02
	tagOwnGroup = 0x04
	tagGroup    = 0x08
	tagMask     = 0x10
	tagOthers   = 0x20
	noID        = ^uint32(0)
	readWrite   = 6
)

// accessList returns one for mode and a. Its entries must be in order.
func accessList(a Allowed) []byte {
	list := binary.LittleEndian.AppendUint32(nil, listVersion)
	add := func(tag, permissions uint16, id uint32) {
		list = binary.LittleEndian.AppendUint16(list, tag)
		list = binary.LittleEndian.AppendUint16(list, permissions)
		list = binary.LittleEndian.AppendUint32(list, id)
	}
	each := func(tag uint16, ids []uint32) {
		ids = slices.Sorted(slices.Values(ids))
		for _, id := range slices.Compact(ids) {
			add(tag, readWrite, id)
		}
	}
	add(tagOwner, readWrite, noID)
	each(tagUser, a.Users)
	add(tagOwnGroup, readWrite, noID)
	each(tagGroup, a.Groups)
	add(tagMask, readWrite, noID)
	add(tagOthers, 0, noID)
	return list
}
