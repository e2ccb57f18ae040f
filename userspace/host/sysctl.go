package host

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// HasIPv6 reports whether the kernel was built, and started, with IPv6.
func HasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6/conf")
	return err == nil
}

// A Sysctl is a kernel setting, its name with dots.
type Sysctl struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (s Sysctl) String() string { return s.Name + "=" + s.Value }

// path returns the file of a setting. An interface's name may hold dots, which
// sysctl(8) writes as slashes.
func (s Sysctl) path() string {
	return "/proc/sys/" + strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, s.Name)
}

// Exists reports whether the kernel has the setting now: those of an interface
// go with it.
func (s Sysctl) Exists() bool {
	_, err := os.Stat(s.path())
	return err == nil
}

// Current returns what the setting is now.
func (s Sysctl) Current() (string, error) {
	value, err := os.ReadFile(s.path())
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", s.Name, err)
	}
	return strings.TrimSpace(string(value)), nil
}

// Set writes the setting.
func (s Sysctl) Set() error {
	if err := os.WriteFile(s.path(), []byte(s.Value), 0); err != nil {
		return fmt.Errorf("set sysctl %s: %w", s, err)
	}
	return nil
}

// ofInterface returns a setting that an interface has in a family, "ipv4" or
// "ipv6".
func ofInterface(family, name, key, value string) Sysctl {
	return Sysctl{"net." + family + ".conf." + strings.ReplaceAll(name, ".", "/") + "." + key, value}
}

// MissingForwarding returns the settings without which the kernel's route
// look-up refuses to forward packets that arrive on one of the interfaces.
func MissingForwarding(interfaces []string) ([]Sysctl, error) {
	return missing("ipv4", interfaces)
}

// MissingForwarding6 is [MissingForwarding] for IPv6. The settings are to be made
// in their order, and to be undone in the reverse one: an interface that forwards
// does not hear routers unless it is told to, and the kernel may drop default
// routes that the host has from routers on other interfaces that were not.
func MissingForwarding6(interfaces []string) ([]Sysctl, error) {
	forwarding, err := missing("ipv6", interfaces)
	if err != nil || len(forwarding) == 0 {
		return nil, err
	}
	advertised, err := advertised()
	if err != nil {
		return nil, err
	}
	var all []Sysctl
	for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(interfaces, advertised)))) {
		hear := ofInterface("ipv6", name, "accept_ra", "2")
		switch have, err := hear.Current(); {
		case err != nil:
			return nil, err
		case have == "1":
			all = append(all, hear)
		}
	}
	return append(all, forwarding...), nil
}

// missing returns the interfaces that do not forward packets of a family.
func missing(family string, interfaces []string) ([]Sysctl, error) {
	var all []Sysctl
	for _, name := range interfaces {
		s := ofInterface(family, name, "forwarding", "1")
		switch have, err := s.Current(); {
		case err != nil:
			return nil, err
		case have != s.Value:
			all = append(all, s)
		}
	}
	return all, nil
}

// advertised returns the interfaces on which routers have told the host of a
// default route.
func advertised() ([]string, error) {
	routes, err := defaultRoutes(unix.AF_INET6)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range routes {
		if r.Protocol != unix.RTPROT_RA {
			continue
		}
		for _, way := range nextHops(r) {
			l, err := net.InterfaceByIndex(way.LinkIndex)
			if err != nil {
				continue // it has just gone, and its routes with it
			}
			names = append(names, l.Name)
		}
	}
	return names, nil
}
