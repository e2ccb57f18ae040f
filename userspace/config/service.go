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
	http         httpKeys
}

const (
	maxWeight  = 1000
	maxPassive = 1000000
	noBackends = "no backends: list at least one, such as - address: 10.0.0.1:8080"
)

var nameSyntax = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// newService returns one with every default.
func newService(f model.Forward) service {
	return service{Service: model.Service{
		Protocol: model.TCP, Forward: f, Balance: model.Balance{Method: model.RoundRobin}, OnDown: model.DownReset,
		PanicThreshold: model.DefaultPanicThreshold, ZoneThreshold: model.DefaultZoneThreshold,
		PassiveThreshold: model.DefaultPassiveThreshold,
		PassiveResets:    model.DefaultPassiveResets,
	}}
}

// service reads one entry of services and checks it by itself.
func (r *reader) service(v value) service {
	s := newService(model.ForwardDNAT)
	before := len(r.faults)
	var g group
	v = r.withDefaults(v, r.lacks(v))
	met := r.object(v, r.serviceFields(&s, &g))
	if len(met) == 0 && len(r.faults) > before {
		return s // not a group of keys, or nothing in it that is known
	}
	r.require(v, met, "name", "is missing: give one of a-z, 0-9 and -")
	r.require(v, met, "listen", "is missing: give an address and port, such as 203.0.113.10:80")
	r.httpBelongs(v, met, &s)
	if g.clients.Node != nil {
		r.clients(g.clients, &s)
	}
	r.group(met, &s, &g)
	r.families(&s)
	r.acceptBelongs(met, &s)
	r.cookiesBelong(met, &s)
	r.routes(&s)
	r.nameRoutes(&s)
	return s
}

// serviceFields are the keys of a service.
func (r *reader) serviceFields(s *service, g *group) fields {
	known := fields{
		"name":   func(v value) { r.name(v, s) },
		"listen": func(v value) { r.listen(v, s) },
		"protocol": func(v value) {
			enum(r, v, &s.Protocol, []model.Protocol{model.TCP, model.UDP})
		},
		"forward": func(v value) {
			enum(r, v, &s.Forward, []model.Forward{model.ForwardDNAT, model.ForwardFullNAT, model.ForwardProxy, model.ForwardHTTP, model.ForwardTLS},
				"dsr", "ipip", "gue")
		},
		"affinity": func(v value) { g.affinity = v },
		"drain":    func(v value) { r.duration(v, &s.Drain, minTimeout, maxTimeout) },
		"passive-threshold": func(v value) {
			r.number(v, &s.PassiveThreshold, 0, maxPassive)
		},
		"passive-resets": func(v value) { r.number(v, &s.PassiveResets, 0, maxPassive) },
		"on-down": func(v value) {
			enum(r, v, &s.OnDown, []model.DownPolicy{model.DownReset, model.DownKeep})
		},
		"clients":      func(v value) { g.clients = v },
		"syn-cookies":  func(v value) { r.cookies(v, &s.CookieAbove) },
		"accept-proxy": func(v value) { r.acceptProxy(v, s) },
	}
	r.groupFields(known, s, g)
	r.httpFields(known, &s.http)
	r.poolFields(known, &s.http)
	return known
}

// A group holds what is said of some backends and can only be read when all of
// it is known; values have no node if they are not there.
type group struct{ balance, affinity, backends, clients, health value }

// groupFields adds the keys that services and pools have in common.
func (r *reader) groupFields(known fields, s *service, g *group) {
	known["balance"] = func(v value) { g.balance = v }
	known["slow-start"] = func(v value) { r.duration(v, &s.SlowStart, minTimeout, maxSlowStart) }
	known["panic-threshold"] = func(v value) { r.number(v, &s.PanicThreshold, 0, 100) }
	known["zone-threshold"] = func(v value) { r.number(v, &s.ZoneThreshold, 1, 100) }
	known["backends"] = func(v value) { g.backends = v }
	known["health"] = func(v value) { g.health = v }
	known["send-proxy"] = func(v value) { enum(r, v, &s.SendProxy, []model.ProxyVersion{model.ProxyV1, model.ProxyV2}) }
}

// group reads what g holds into s.
func (r *reader) group(met map[string]value, s *service, g *group) {
	if s.http.own = g.backends.Node != nil; s.http.own {
		r.backends(g.backends, s)
	}
	if at, ok := met["zone-threshold"]; ok && !zoned(&s.Service) {
		r.fault(at, "no backend of the service has a zone: give them zones, or remove it")
	}
	if _, ok := met["drain"]; !ok && s.Named() && s.Forward != model.ForwardHTTP {
		s.Drain = namesDrain
	}
	r.secureNames(s)
	r.secured(met, s)
	s.Health = r.health(g.health, s)
	r.sendBelongs(met, s)
	r.choice(g.balance, g.affinity, s)
	if at, ok := met["load-feedback"]; ok && s.Balance.Method.Hashes() {
		r.fault(at, "does not go with %s, where clients would move with the weights: remove it, or use another method", s.Balance.Method)
	}
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
	seen, before := map[model.Backend]value{}, len(r.faults) // by their addresses
	ok := r.list(v, func(v value) {
		b, at := r.backend(v, s)
		if at.Node == nil {
			return
		}
		same := model.Backend{Address: b.Address, Name: b.Name}
		if by, ok := seen[same]; ok {
			r.fault(at, "%s is a backend in %s already: remove one of the two, or raise the weight of one", quote(at.Value), r.place(by, at))
			return
		}
		seen[same] = at
		s.Backends = append(s.Backends, b)
		s.backends = append(s.backends, at)
	})
	if ok && len(v.Content) == 0 {
		if !r.registers[s.Name] {
			r.fault(v, noBackends)
		}
		return
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
			if r.backendAddr(v, s, &b) {
				at = v
			}
		},
		"srv": func(v value) {
			if r.srv(v, &b) {
				at = v
			}
		},
		"url": func(v value) {
			if r.origin(v, s, &b) {
				at = v
			}
		},
		"weight": func(v value) { r.number(v, &b.Weight, 0, maxWeight) },
		"backup": func(v value) { r.boolean(v, &b.Backup) },
		"zone":   func(v value) { r.word(v, &b.Zone) },
	})
	first := ""
	for _, key := range []string{"address", "url", "srv"} {
		place, ok := met[key]
		switch {
		case ok && first != "":
			r.fault(place, "stands beside %s: remove one of the two", first)
		case ok:
			first = key
		}
	}
	if first == "" && (len(met) > 0 || len(r.faults) == before) {
		r.require(v, met, "address", "is missing: give an address and port, such as 10.0.0.1:8080")
	}
	for _, key := range []string{"weight", "backup"} {
		if place, ok := met[key]; ok && first == "srv" {
			r.fault(place, "does not go with srv, whose records say it: remove it")
		}
	}
	return b, at
}

// backendAddr reads an address, or name, with a port, which only a service with a
// range of ports may leave out.
func (r *reader) backendAddr(v value, s *service, b *model.Backend) bool {
	text, ok := r.text(v)
	if !ok {
		return false
	}
	host, portText, hasPort := cutPort(text)
	var addr netip.Addr
	if hostName(host) {
		b.Name.Host = nameOf(host)
	} else if addr, ok = r.addr(v, text, host); !ok {
		return false
	}
	var port uint16
	switch {
	case addr.IsValid() && addr.IsUnspecified():
		r.fault(v, "%s is no server's address: use the address that the backend has", quote(text))
		return false
	case hasPort:
		if port, ok = r.port(v, text, portText); !ok {
			return false
		}
	case s.Forward == model.ForwardHTTP || s.listen.Node != nil && s.Listen.Port() == s.LastPort:
		r.fault(v, "%s has no port: write it like %s:8080; only a service with a range of ports may leave it out", quote(text), textOf(addr, host))
		return false
	}
	b.Address = netip.AddrPortFrom(addr, port)
	return true
}

// isAt reports whether a service itself would get what is sent to a backend. Port 0
// is the one that the client asked for.
func (s *service) isAt(backend netip.AddrPort) bool {
	listen, addr, port := s.Listen.Addr(), backend.Addr(), backend.Port()
	return (addr == listen || listen.IsUnspecified() && addr.IsLoopback() && addr.Is4() == listen.Is4()) &&
		(port == 0 || s.Listen.Port() <= port && port <= s.LastPort)
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
		addr := b.Address.Addr()
		switch {
		case s.isAt(b.Address):
			r.fault(s.backends[i], "%s is the service itself: use the address of a server", quote(s.backends[i].Value))
		case addr.IsLoopback() && xdp != model.XDPOff && !s.UserSpace():
			r.fault(s.backends[i], "%s cannot be reached by XDP: use another address, set forward: proxy for the service, or xdp: off", quote(s.backends[i].Value))
		}
	}
}

// distinct finds names and ports that an earlier service has.
func (r *reader) distinct(s *service, taken ports, names map[string]value) {
	if s.name.Node != nil {
		if by, ok := names[s.Name]; ok {
			r.fault(s.name, "%s is the name of the service in %s already: use another", quote(s.Name), r.place(by, s.name))
		} else {
			names[s.Name] = s.name
		}
	}
	if s.listen.Node == nil {
		return
	}
	if by, ok := taken.take(s); !ok {
		r.fault(s.listen, "%s/%s is taken by service %s in %s already: use another address or port, or make one service of the two",
			s.listen.Value, s.Protocol, quote(by.Name), r.place(by.listen, s.listen))
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
