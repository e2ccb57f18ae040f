package config

import (
	"maps"
	"slices"
	"strings"
	"time"

	"fairlead/userspace/model"
)

// Bounds of numbers and times.
const (
	minFlows, maxFlows = 1024, 1 << 24
	maxReplies         = 1_000_000
	minTimeout         = time.Second
	maxTimeout         = 24 * time.Hour
)

// state reads the whole file.
func (r *reader) state(v value) model.State {
	s := model.State{
		XDP: model.XDPAuto, Addresses: model.AddressesAdd, OnAgentLoss: model.LossKeep,
		FlowTable: model.DefaultFlowTable, ReplyLimit: model.DefaultReplyLimit,
		Timeouts: model.Timeouts{}.WithDefaults(), FullNAT: model.FullNAT{}.WithDefaults(), Resolver: model.Resolver{}.WithDefaults(),
	}
	var services []service
	pools := map[string]*service{}
	var zone string
	r.readDefaults(v)
	r.readRegisters(v)
	groups := fields{
		"services": func(v value) {
			services = slices.Grow(services, len(v.Content))
			r.list(v, func(v value) {
				services = append(services, remembered(r, v, "service", func() service { return r.service(v) }))
			})
		},
		"pools": func(v value) { r.pools(v, pools) },
	}
	var acme *model.ACME
	var vault *model.Vault
	var reg registration
	known := r.settings(&s)
	maps.Copy(known, groups)
	maps.Copy(known, fields{
		"defaults": func(value) {}, // read before all
		"include": func(value) {
			for _, part := range r.parts {
				r.object(value{Node: part}, groups)
			}
		},
		"zone":         func(v value) { r.word(v, &zone) },
		"client-zones": func(v value) { s.ClientZones = r.clientZones(v) },
		"vault":        func(v value) { vault = r.vault(v) },
		"acme":         func(v value) { acme = r.acme(v) },
		"registration": func(v value) { reg = r.registration(v) },
	})
	met := r.object(v, known)
	_, includes := met["include"]
	if _, ok := met["services"]; !ok && !includes && len(r.faults) == 0 {
		r.fault(v.at("services", v.Node), "is missing: list the services, or write [] for none")
	}
	r.linkServices(&s, services, zone)
	r.linkACME(&s, services, acme)
	r.linkVault(&s, services, vault)
	r.linkPools(&s, services, pools, zone)
	r.linkRegistration(&s, &reg, pools, services)
	r.linkListeners(services)
	return s
}

// linkServices tells services of what they share, and finds those that cannot be
// side by side.
func (r *reader) linkServices(s *model.State, services []service, zone string) {
	taken, names := ports{}, map[string]value{}
	for i := range services {
		x := &services[i]
		r.reach(x, s.XDP)
		r.distinct(x, taken, names)
		if x.Zone = zone; zoned(&x.Service) {
			x.ClientZones = s.ClientZones
		}
	}
}

// settings reads what concerns no service in particular.
func (r *reader) settings(s *model.State) fields {
	return fields{
		"admin":      func(v value) { r.admin(v, &s.Admin) },
		"agent":      func(v value) { r.process(v, &s.Agent) },
		"interfaces": func(v value) { s.Interfaces = r.interfaces(v) },
		"xdp": func(v value) {
			enum(r, v, &s.XDP, []model.XDPMode{model.XDPAuto, model.XDPNative, model.XDPGeneric, model.XDPOff})
		},
		"addresses": func(v value) {
			enum(r, v, &s.Addresses, []model.AddressPolicy{model.AddressesAdd, model.AddressesLeave})
		},
		"on-agent-loss": func(v value) {
			enum(r, v, &s.OnAgentLoss, []model.LossPolicy{model.LossKeep, model.LossAllUp})
		},
		"flow-table":  func(v value) { r.number(v, &s.FlowTable, minFlows, maxFlows) },
		"reply-limit": func(v value) { r.number(v, &s.ReplyLimit, 1, maxReplies) },
		"timeouts":    func(v value) { r.timeouts(v, &s.Timeouts) },
		"notify":      func(v value) { s.Notify = r.notify(v) },
		"access-log":  func(v value) { s.AccessLog = r.accessLog(v) },
		"tracing":     func(v value) { s.Tracing = r.tracing(v) },
		"flow-log":    func(v value) { s.FlowLog = r.flowLog(v) },
		"resolver":    func(v value) { r.resolver(v, &s.Resolver) },
		"full-nat":    func(v value) { r.fullNAT(v, &s.FullNAT) },
	}
}

func (r *reader) timeouts(v value, t *model.Timeouts) {
	read := func(p *time.Duration) func(value) {
		return func(v value) { r.duration(v, p, minTimeout, maxTimeout) }
	}
	r.object(v, fields{
		"tcp-new":         read(&t.TCPNew),
		"tcp-established": read(&t.TCPEstablished),
		"tcp-fin":         read(&t.TCPFin),
		"udp-new":         read(&t.UDPNew),
		"udp-established": read(&t.UDPEstablished),
	})
}

// interfaces reads a list of interface names, by the rules of the kernel.
func (r *reader) interfaces(v value) (names []string) {
	lines := map[string]int{}
	r.list(v, func(v value) {
		s, ok := r.text(v)
		switch {
		case !ok:
			return
		case len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t\r\n"):
			r.fault(v, "%s is not an interface name: use at most 15 characters, without blanks, / and :", quote(s))
		case lines[s] != 0:
			r.fault(v, "%s stands in line %d already: remove one of the two", quote(s), lines[s])
		default:
			lines[s] = v.Line
			names = append(names, s)
		}
	})
	return names
}
