package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"fairlead/userspace/model"
)

// How addresses are written, for faults.
const (
	likeAddrPort = "write it like 203.0.113.10:80 or [2001:db8::10]:80"
	likeNetwork  = "write it like 198.51.100.0/24 or 2001:db8:5::/48, or 198.51.100.7 for one address"
)

// cutPort splits "host:port"; an IPv6 host keeps its brackets.
func cutPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if _, err := netip.ParseAddr(s); err == nil || i < 0 || strings.HasSuffix(s, "]") {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// addr reads the host part of text, the whole value. IPv6 stands in brackets
// before a port, and may elsewhere.
func (r *reader) addr(v value, text, host string) (netip.Addr, bool) {
	inner, bracketed := host, false
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		inner, bracketed = host[1:len(host)-1], true
	}
	a, err := netip.ParseAddr(inner)
	if err != nil || bracketed && a.Is4() || !bracketed && a.Is6() && host != text {
		r.fault(v, "%s is not an address and port: %s", quote(text), likeAddrPort)
		return netip.Addr{}, false
	}
	if why := unfit(a); why != "" {
		r.fault(v, "%s %s", quote(text), why)
		return netip.Addr{}, false
	}
	return a, true
}

// unfit says why an address can be neither a service's nor a backend's, and
// what to do; "" if it can.
func unfit(a netip.Addr) string {
	switch {
	case a.Is4In6():
		return "is an IPv4 address written as IPv6: write " + a.Unmap().String()
	case a.Zone() != "":
		return "has a zone (%" + a.Zone() + "): use an address that means the same on every link, without one"
	case a.IsMulticast():
		return "is a multicast address: use a unicast address"
	case a.Is6() && a.IsLinkLocalUnicast():
		return "is a link-local address, which means something on one link only: use another address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is the broadcast address: use a unicast address"
	case a.Is4() && a.As4()[0] == 0 && !a.IsUnspecified():
		return "is in 0.0.0.0/8, which is reserved: use another address"
	}
	return ""
}

// port reads the port s, part of the value text.
func (r *reader) port(v value, text, s string) (uint16, bool) {
	var n int
	if s == "" {
		r.fault(v, "%s has no port: %s", quote(text), likeAddrPort)
		return 0, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' || n > 65535 {
			n = 1 << 16
			break
		}
		n = n*10 + int(c-'0')
	}
	switch {
	case n > 65535:
		r.fault(v, "%s is not a port: use a number from 1 to 65535", quote(s))
		return 0, false
	case n == 0:
		r.fault(v, "port 0 is not allowed in %s: use a number from 1 to 65535", quote(text))
		return 0, false
	}
	return uint16(n), true
}

// family names the family of an address, for people; "" if it is not valid.
func family(a netip.Addr) string {
	switch {
	case a.Is4():
		return "IPv4"
	case a.Is6():
		return "IPv6"
	}
	return ""
}

// families finds backends that are not of one family, or not of the service's
// where they would see the client's address.
func (r *reader) families(s *service) {
	if s.listen.Node == nil {
		return
	}
	first := ""
	for i, b := range s.Backends {
		have, want := family(b.Address.Addr()), family(s.Listen.Addr())
		first = cmp.Or(first, have)
		switch {
		case s.UserSpace(), have == "": // a name is looked up for what fits
		case have != want && s.Forward != model.ForwardFullNAT:
			r.fault(s.backends[i], "%s is %s, but the service listens on %s: set forward: full-nat or proxy, as no backend can see a client of another family, or use its %s address",
				quote(s.backends[i].Value), have, want, want)
		case have != first:
			r.fault(s.backends[i], "%s is %s, but the first backend is %s: use backends of one family, or write two services",
				quote(s.backends[i].Value), have, first)
		}
	}
}

// textOf returns an address, or the name if there is none, as it stands before a
// port.
func textOf(a netip.Addr, name string) string {
	if a.Is6() {
		return fmt.Sprintf("[%s]", a)
	}
	return name
}
