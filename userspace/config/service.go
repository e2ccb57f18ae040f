package config

import (
	"net/netip"
	"regexp"
	"slices"
	"sort"
	"strings"

	"fairlead/userspace/model"
)

// A service is a model.Service and the places in the file that a comparison
// with another one may have to name.
type service struct {
	model.Service
	name, listen value   // without a node if missing or at fault
	backends     []value // addresses, beside Service.Backends
}

const (
	maxWeight  = 1000
	maxPassive = 1000000
	noBackends = "no backends: list at least one, such as - address: 10.0.0.1:8080"
)

var nameSyntax = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// service reads one entry of services and checks it by itself.
func (r *reader) service(v value) service {
	s := service{Service: model.Service{
		Protocol: model.TCP, Forward: model.ForwardDNAT, Balance: model.Balance{Method: model.RoundRobin}, OnDown: model.DownReset,
		PanicThreshold: model.DefaultPanicThreshold, ZoneThreshold: model.DefaultZoneThreshold,
		PassiveThreshold: model.DefaultPassiveThreshold,
		PassiveResets:    model.DefaultPassiveResets,
	}}
	before := len(r.faults)
	var clients, balance, affinity, backends, health value
	met := r.object(v, fields{
		"name":   func(v value) { r.name(v, &s) },
		"listen": func(v value) { r.listen(v, &s) },
		"protocol": func(v value) {
			enum(r, v, &s.Protocol, []model.Protocol{model.TCP, model.UDP})
		},
		"forward": func(v value) {
			enum(r, v, &s.Forward, []model.Forward{model.ForwardDNAT, model.ForwardFullNAT, model.ForwardProxy},
				"dsr", "ipip", "gue", "http")
		},
		"balance":         func(v value) { balance = v },
		"affinity":        func(v value) { affinity = v },
		"slow-start":      func(v value) { r.duration(v, &s.SlowStart, minTimeout, maxSlowStart) },
		"drain":           func(v value) { r.duration(v, &s.Drain, minTimeout, maxTimeout) },
		"panic-threshold": func(v value) { r.number(v, &s.PanicThreshold, 0, 100) },
		"zone-threshold":  func(v value) { r.number(v, &s.ZoneThreshold, 1, 100) },
		"passive-threshold": func(v value) {
			r.number(v, &s.PassiveThreshold, 0, maxPassive)
		},
		"passive-resets": func(v value) { r.number(v, &s.PassiveResets, 0, maxPassive) },
		"on-down": func(v value) {
			enum(r, v, &s.OnDown, []model.DownPolicy{model.DownReset, model.DownKeep})
		},
		"clients":     func(v value) { clients = v },
		"syn-cookies": func(v value) { r.cookies(v, &s.CookieAbove) },
		"backends":    func(v value) { backends = v },
		"health":      func(v value) { health = v },
	})
	if len(met) == 0 && len(r.faults) > before {
		return s // not a group of keys, or nothing in it that is known
	}
	r.require(v, met, "name", "is missing: give one of a-z, 0-9 and -")
	r.require(v, met, "listen", "is missing: give an address and port, such as 203.0.113.10:80")
	r.require(v, met, "backends", noBackends)
	if clients.Node != nil {
		r.clients(clients, &s)
	}
	if backends.Node != nil {
		r.backends(backends, &s)
	}
	r.families(&s)
	r.cookiesBelong(met, &s)
	if at, ok := met["zone-threshold"]; ok && !zoned(&s.Service) {
		r.fault(at, "no backend of the service has a zone: give them zones, or remove it")
	}
	s.Health = r.health(health, &s)
	r.choice(balance, affinity, &s)
	return s
}

func (r *reader) name(v value, s *service) {
	if r.word(v, &s.Name) {
		s.name = v
	}
}

// word reads the name of something into p.
func (r *reader) word(v value, p *string) bool {
	word, ok := r.text(v)
	if ok && !nameSyntax.MatchString(word) {
		r.fault(v, "%s is not a name: use 1 to 63 of a-z, 0-9 and -, a - only inside", quote(word))
		return false
	}
	if ok {
		*p = word
	}
	return ok
}

// listen reads an address and a port or range of ports.
func (r *reader) listen(v value, s *service) {
	text, ok := r.text(v)
	if !ok {
		return
	}
	host, port, _ := cutPort(text)
	addr, ok := r.addr(v, text, host)
	if !ok {
		return
	}
	first, last, isRange := strings.Cut(port, "-")
	if !isRange {
		last = first
	}
	low, ok := r.port(v, text, first)
	if !ok {
		return
	}
	high, ok := r.port(v, text, last)
	if !ok {
		return
	}
	if high < low {
		r.fault(v, "%s ends before it begins: write the lower port first", quote(text))
		return
	}
	s.Listen, s.LastPort, s.listen = netip.AddrPortFrom(addr, low), high, v
}

func (r *reader) backends(v value, s *service) {
	lines, before := map[netip.AddrPort]int{}, len(r.faults)
	ok := r.list(v, func(v value) {
		b, at := r.backend(v, s)
		if at.Node == nil {
			return
		}
		if line, ok := lines[b.Address]; ok {
			r.fault(at, "%s is a backend in line %d already: remove one of the two, or raise the weight of one", quote(at.Value), line)
			return
		}
		lines[b.Address] = at.Line
		s.Backends = append(s.Backends, b)
		s.backends = append(s.backends, at)
	})
	if ok && len(v.Content) == 0 {
		r.fault(v, noBackends)
	}
	if len(r.faults) == before && !slices.ContainsFunc(s.Backends, func(b model.Backend) bool { return !b.Backup }) {
		r.fault(v, "all are backups: at least one must serve before them")
	}
}

// backend reads one backend and the place of its address, which has no node
// if it is at fault.
func (r *reader) backend(v value, s *service) (model.Backend, value) {
	b := model.Backend{Weight: 1}
	var at value
	before := len(r.faults)
	met := r.object(v, fields{
		"address": func(v value) {
			var ok bool
			if b.Address, ok = r.backendAddr(v, s); ok {
				at = v
			}
		},
		"weight": func(v value) { r.number(v, &b.Weight, 0, maxWeight) },
		"backup": func(v value) { r.boolean(v, &b.Backup) },
		"zone":   func(v value) { r.word(v, &b.Zone) },
	})
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "address", "is missing: give an address and port, such as 10.0.0.1:8080")
	}
	return b, at
}

// backendAddr reads an address with a port, which only a service with a range
// of ports may leave out.
func (r *reader) backendAddr(v value, s *service) (netip.AddrPort, bool) {
	text, ok := r.text(v)
	if !ok {
		return netip.AddrPort{}, false
	}
	host, portText, hasPort := cutPort(text)
	addr, ok := r.addr(v, text, host)
	switch {
	case !ok:
		return netip.AddrPort{}, false
	case addr.IsUnspecified():
		r.fault(v, "%s is no server's address: use the address that the backend has", quote(text))
		return netip.AddrPort{}, false
	case hasPort:
		port, ok := r.port(v, text, portText)
		return netip.AddrPortFrom(addr, port), ok
	case s.listen.Node != nil && s.Listen.Port() == s.LastPort:
		r.fault(v, "%s has no port: write it like %s:8080; only a service with a range of ports may leave it out", quote(text), textOf(addr))
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr, 0), true
}

// reach finds addresses that packets cannot be sent to or from.
func (r *reader) reach(s *service, xdp model.XDPMode) {
	if s.listen.Node == nil {
		return
	}
	listen := s.Listen.Addr()
	if xdp != model.XDPOff && (listen.IsLoopback() || listen.IsUnspecified()) {
		r.fault(s.listen, "%s is not an address that packets arrive for from outside: use another, or set xdp: off", quote(s.listen.Value))
	}
	if s.Protocol == model.UDP && listen.IsUnspecified() && xdp == model.XDPOff {
		r.fault(s.listen, "%s has no address that answers could come from: a UDP service needs one of its own", quote(s.listen.Value))
	}
	for i, b := range s.Backends {
		port := b.Address.Port()
		addr := b.Address.Addr()
		same := addr == listen || listen.IsUnspecified() && addr.IsLoopback()
		switch {
		case same && (port == 0 || s.Listen.Port() <= port && port <= s.LastPort):
			r.fault(s.backends[i], "%s is the service itself: use the address of a server", quote(s.backends[i].Value))
		case addr.IsLoopback() && xdp != model.XDPOff && s.Forward != model.ForwardProxy:
			r.fault(s.backends[i], "%s cannot be reached by XDP: use another address, set forward: proxy for the service, or xdp: off", quote(s.backends[i].Value))
		}
	}
}

// distinct finds names and ports that an earlier service has.
func (r *reader) distinct(s *service, taken ports, names map[string]int) {
	if s.name.Node != nil {
		if line, ok := names[s.Name]; ok {
			r.fault(s.name, "%s is the name of the service in line %d already: use another", quote(s.Name), line)
		} else {
			names[s.Name] = s.name.Line
		}
	}
	if s.listen.Node == nil {
		return
	}
	if by, ok := taken.take(s); !ok {
		r.fault(s.listen, "%s/%s is taken by service %s in line %d already: use another address or port, or make one service of the two",
			s.listen.Value, s.Protocol, quote(by.Name), by.listen.Line)
	}
}

// ports holds the services that listen on each address, in the order of their
// ports. None of them overlap.
type ports map[portsKey][]*service

type portsKey struct {
	addr     netip.Addr
	protocol model.Protocol
}

// take adds s, or returns a service that has one of its ports already. 0.0.0.0
// is every IPv4 address, :: every one of IPv6.
func (p ports) take(s *service) (by *service, ok bool) {
	own := portsKey{s.Listen.Addr(), s.Protocol}
	every := netip.IPv6Unspecified()
	if own.addr.Is4() {
		every = netip.IPv4Unspecified()
	}
	rivals := [][]*service{p[own], p[portsKey{every, s.Protocol}]}
	if own.addr == every {
		for key, list := range p {
			if key.addr.Is4() == every.Is4() && key.protocol == s.Protocol {
				rivals = append(rivals, list)
			}
		}
	}
	for _, list := range rivals {
		i := find(list, s.Listen.Port())
		if i < len(list) && list[i].Listen.Port() <= s.LastPort {
			return list[i], false
		}
	}
	p[own] = slices.Insert(p[own], find(p[own], s.Listen.Port()), s)
	return nil, true
}

// find returns the first service of list that ends at port or later.
func find(list []*service, port uint16) int {
	return sort.Search(len(list), func(i int) bool { return list[i].LastPort >= port })
}
