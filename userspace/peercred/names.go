package peercred

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
)

// User returns the number of a user of this host by name, or of one that is given
// by number, who need not exist.
func User(name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("this host has no user %q: name one of getent passwd, or a number", name)
	}
	return number(u.Uid)
}

// Group is [User] of groups.
func Group(name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("this host has no group %q: name one of getent group, or a number", name)
	}
	return number(g.Gid)
}

func number(id string) (uint32, error) {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("read id: %w", err)
	}
	return uint32(n), nil
}

// Named returns users and groups of this host, as of [User] and [Group]. The error
// is about those that there are not; the others are returned with it.
func Named(users, groups []string) (Allowed, error) {
	var a Allowed
	var errs []error
	for _, x := range []struct {
		names []string
		look  func(string) (uint32, error)
		into  *[]uint32
	}{{users, User, &a.Users}, {groups, Group, &a.Groups}} {
		for _, name := range x.names {
			if id, err := x.look(name); err != nil {
				errs = append(errs, err)
			} else {
				*x.into = append(*x.into, id)
			}
		}
	}
	return a, errors.Join(errs...)
}
