package kernel

import (
	"errors"
	"fmt"
	"slices"

	"fairlead/userspace/host"
	"fairlead/userspace/model"
)

// ErrCookies says that this host would not take the SYN cookies of XDP.
var ErrCookies = errors.New("syn-cookies")

// syncookies is the setting by which a listener makes cookies of its own of all
// SYNs. Only then it takes cookies at all: others have to be in the last two
// minutes, and of a listener whose queue is never full none would.
var syncookies = host.Sysctl{Name: "net.ipv4.tcp_syncookies", Value: "2"}

// CookieFault says why services of the state cannot have SYN cookies on this
// host, and what to do; "" if they can, or none is to have any.
func CookieFault(state *model.State) (string, error) {
	if !slices.ContainsFunc(state.Services, func(s model.Service) bool { return s.CookieAbove > 0 }) {
		return "", nil
	}
	have, err := syncookies.Current()
	if err != nil || have == syncookies.Value {
		return "", err
	}
	return fmt.Sprintf("%s is %s, with which the kernel does not take the cookies of XDP: run: sysctl -w %s", syncookies.Name, have, syncookies), nil
}

// CheckCookies refuses a state whose SYN cookies would lead nowhere. It is for
// somebody who decides on a state: [Attach] and [Kernel.Reconcile] leave the
// cookies out.
func CheckCookies(state *model.State) error {
	fault, err := CookieFault(state)
	if fault != "" {
		return fmt.Errorf("%w: %s", ErrCookies, fault)
	}
	return err
}

// standbys returns for which services of a state somebody takes SYN cookies: the
// kernel, and a proxy that stands by.
func (k *Kernel) standbys(state *model.State) []bool {
	all := make([]bool, len(state.Services))
	if CheckCookies(state) != nil {
		return all
	}
	for i := range state.Services {
		s := &state.Services[i]
		all[i] = s.CookieAbove > 0 && k.opts.Standby != nil && k.opts.Standby(s)
	}
	return all
}

// StandbyChanged reports whether SYN cookies may be had by other services of
// state than at the last [Kernel.Reconcile].
func (k *Kernel) StandbyChanged(state *model.State) bool {
	return !slices.Equal(k.standby, k.standbys(state))
}
