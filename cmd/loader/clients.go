package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairlead/userspace/datapath"
)

// clientsCell says in short who may connect: how many networks are in the
// lists, what holds for everybody else, and the limit.
func clientsCell(c *datapath.ClientsView) string {
	if c == nil {
		return "all"
	}
	var words []string
	others := ""
	for _, list := range []struct {
		networks []netip.Prefix
		word     string
	}{{c.Allow, "allowed"}, {c.Deny, "denied"}} {
		n := len(list.networks)
		if slices.ContainsFunc(list.networks, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
			n, others = n-1, "others "+list.word
		}
		if n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, list.word))
		}
	}
	if others != "" {
		words = append(words, others)
	}
	if l := c.Limit; l != nil {
		words = append(words, fmt.Sprintf("%d/s of a /%d, burst %d", l.Rate, l.Prefix, l.Burst))
	}
	return strings.Join(words, ", ")
}

// cookiesCell says in short when SYNs are answered with cookies.
func cookiesCell(c *datapath.SYNCookiesView) string {
	switch {
	case c == nil:
		return "none"
	case !c.Standby:
		return "none for now"
	}
	return fmt.Sprintf("above %d/s", c.Above)
}

// zonesCell says in short how many slots the clients of each zone have.
func zonesCell(zones []datapath.ZoneView) string {
	if len(zones) == 0 {
		return "none"
	}
	words := make([]string, len(zones))
	for i, z := range zones {
		words[i] = fmt.Sprintf("%s %d", z.Zone, z.Slots)
	}
	return strings.Join(words, ", ")
}
