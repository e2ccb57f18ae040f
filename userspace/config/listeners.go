package config

import (
	"errors"
	"net"
	"net/netip"
	"strconv"

	"fairlead/userspace/model"
)

// An ownListener is where the agent itself listens.
type ownListener struct {
	listen string // as [Listener] returns it
	what   string // it is there for, such as "where metrics are told, by agent.metrics"
	at     value
}

// listener reads where the agent listens for a purpose.
func (r *reader) listener(v value, p *string, what string) {
	text, ok := r.text(v)
	if !ok {
		return
	}
	var err error
	if *p, err = Listener(text); err != nil {
		r.fault(v, "%s %v", quote(text), err)
		return
	}
	r.own = append(r.own, ownListener{*p, what, v})
}

// linkListeners finds listeners that cannot be side by side with one of the agent's
// own.
func (r *reader) linkListeners(services []service) {
	for i, own := range r.own {
		for _, other := range r.own[:i] {
			if SameListener(own.listen, other.listen) {
				r.fault(own.at, "%s is %s in %s: use another port for one of the two", quote(own.at.Value), other.what, r.place(other.at, own.at))
			}
		}
		for j := range services {
			if s := &services[j]; s.listen.Node != nil && Clashes(own.listen, &s.Service) {
				r.fault(s.listen, "%s is %s in %s: use another port for one of the two", quote(s.listen.Value), own.what, r.place(own.at, s.listen))
			}
		}
	}
}

// SameListener reports whether of two listeners of the agent's own, as [Listener]
// returns them, only one can be.
func SameListener(a, b string) bool {
	first, port, err := net.SplitHostPort(a)
	second, port2, err2 := net.SplitHostPort(b)
	return err == nil && err2 == nil && port == port2 && (first == second || anywhere(first) || anywhere(second))
}

// anywhere reports whether a host of a listener stands for all addresses.
func anywhere(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err != nil || addr.IsUnspecified()
}

// Clashes reports whether a TCP service of this address and these ports would
// listen where the agent itself does, "address:port" or ":port".
func Clashes(own string, s *model.Service) bool {
	host, portText, err := net.SplitHostPort(own)
	if err != nil || s.Protocol != model.TCP {
		return false
	}
	port, _ := strconv.ParseUint(portText, 10, 16) // of a configuration that was read
	if uint16(port) < s.Listen.Port() || uint16(port) > s.LastPort {
		return false
	}
	return anywhere(host) || s.Listen.Addr().IsUnspecified() || host == s.Listen.Addr().String()
}

var errListener = errors.New("is neither a port, an address and port, nor off: write it like 8080, 127.0.0.1:8080 or off")

// Listener reads where something of the agent's own listens: "8080" is that port of
// all addresses, returned as ":8080"; beside that there are "127.0.0.1:8080" and
// "off". The error goes on where a quotation of text ends.
func Listener(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	switch {
	case text == "off":
		return text, nil
	case err != nil:
		host, port = "", text
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errListener
	}
	if host == "" {
		return ":" + port, nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return "", errListener
	}
	return net.JoinHostPort(addr.String(), port), nil
}
