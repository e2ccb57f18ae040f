// Package peercred knows who is at the other end of a unix socket, and makes
// sockets for some users and groups alone.
//
// The kernel tells who it is, as of the moment of connecting: nothing that the peer
// sends counts. What the peer may do is for others to say.
package peercred

import (
	"errors"
	"fmt"
	"net"
	"os/user"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Peer is the process that has connected.
type Peer struct {
	PID      int
	UID, GID uint32
	// Groups are the supplementary ones.
	Groups []uint32
}

// String returns the user, such as "uid 1000 (alice)".
func (p Peer) String() string {
	id := strconv.FormatUint(uint64(p.UID), 10)
	if u, err := user.LookupId(id); err == nil {
		return fmt.Sprintf("uid %s (%s)", id, u.Username)
	}
	return "uid " + id
}

// Of returns the peer of a connection that was accepted.
func Of(c *net.UnixConn) (Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("look at peer: %w", err)
	}
	var p Peer
	var cred *unix.Ucred
	var lookErr error
	err = raw.Control(func(fd uintptr) {
		if cred, lookErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); lookErr == nil {
			p.Groups, lookErr = groupsOf(fd)
		}
	})
	if err = errors.Join(err, lookErr); err != nil {
		return Peer{}, fmt.Errorf("look at peer: %w", err)
	}
	p.PID, p.UID, p.GID = int(cred.Pid), cred.Uid, cred.Gid
	return p, nil
}

// groupsOf returns the supplementary groups of a socket's peer; see SO_PEERGROUPS.
func groupsOf(fd uintptr) ([]uint32, error) {
	groups := make([]uint32, 32)
	for {
		size := uint32(4 * len(groups))
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch e {
		case 0:
			return groups[:size/4], nil
		case unix.ERANGE: // there are more
			groups = make([]uint32, size/4)
		default:
			return nil, e
		}
	}
}

// Allowed are users and groups by their numbers. The zero value allows nobody.
type Allowed struct{ Users, Groups []uint32 }

// Allows reports whether a peer is one of the users, or in one of the groups.
func (a Allowed) Allows(p Peer) bool {
	return slices.Contains(a.Users, p.UID) || slices.Contains(a.Groups, p.GID) ||
		slices.ContainsFunc(p.Groups, func(g uint32) bool { return slices.Contains(a.Groups, g) })
}
