package datapath

import (
	"cmp"
	"maps"
	"math/bits"
	"net/netip"
	"slices"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// Values of the clients map, by whether the network may make flows.
var clientRules = map[bool]uint32{
	false: uint32(loader.LBClientRuleCLIENT_DENY),
	true:  uint32(loader.LBClientRuleCLIENT_ALLOW),
}

// clients returns the rules of a service in a row.
func (s *Service) clients(row uint32) map[network]uint32 {
	rules := map[network]uint32{}
	for p, may := range s.Clients.Rules() {
		rules[network{row, tablePrefix(p, s.Mixed())}] = clientRules[may]
	}
	return rules
}

// setLimit fills in what row, which has its address, says of the limit of each
// network. Credit that they have from a former owner of the row may stay in the
// sources map: it counts for one burst at most, and what is missing comes back
// at the new rate.
func setLimit(row *loader.Service, l model.Limit) {
	if l.Rate == 0 {
		return
	}
	row.LimitRate, row.LimitBurst = uint32(l.Rate), uint32(l.Burst)
	row.LimitMask = maskOf(row, l.Prefix)
}

// clients plans what becomes of the clients map. Entries of rows that have no
// owner, which a writer that died has left, are stale: they must be gone before
// the row has a new one.
func (p *planner) clients(want map[network]uint32) {
	have := maps.Clone(p.have.clients)
	for k := range have {
		if k.service == everyService {
			continue
		}
		if int(k.service) >= len(p.have.services) || p.have.services[k.service].State == serviceNone {
			p.plan.staleClients = append(p.plan.staleClients, k)
			delete(have, k)
		}
	}
	p.plan.clients = diff(have, want)
}

// longestFirst returns the keys to put in the order that lets each client meet
// either its old rule or its new one, whatever is written already; those to
// delete must come in the reverse order.
//
// Proof: a new rule that decides is the client's longest new one, as all longer
// ones are there already. An old rule that decides is its longest old one, as
// no longer one was deleted, and one replaced would decide itself.
func longestFirst(keys []network) []network {
	slices.SortFunc(keys, func(a, b network) int { return cmp.Compare(b.prefix.Bits(), a.prefix.Bits()) })
	return keys
}

// putClients writes what is new before any service asks for it.
func (w *Writer) putClients(p *plan) error {
	if err := deleteKeys(clientsOf(w.maps), w.rows.clients, p.staleClients); err != nil {
		return err
	}
	return putKeys(clientsOf(w.maps), w.rows.clients, longestFirst(slices.Collect(maps.Keys(p.clients.put))), p.clients.put)
}

// deleteClients deletes what is over. A packet on its way may have seen a
// service that had lists just now, and must still find them.
func (w *Writer) deleteClients(p *plan) error {
	if len(p.clients.del) == 0 {
		return nil
	}
	if err := w.wait(); err != nil {
		return err
	}
	keys := longestFirst(p.clients.del)
	slices.Reverse(keys)
	return deleteKeys(clientsOf(w.maps), w.rows.clients, keys)
}

// A ClientsView says who may make flows of a service, and how many.
type ClientsView struct {
	// Allow and Deny are networks, in order; the longest that a client is in
	// decides. 0.0.0.0/0 or ::/0 is everybody else.
	Allow []netip.Prefix `json:"allow"`
	Deny  []netip.Prefix `json:"deny"`
	// Limit is for each network of its prefix length; nil if there is none.
	Limit *LimitView `json:"limit"`
}

// A LimitView is how many flows a network may make.
type LimitView struct {
	Rate   uint32 `json:"rate"` // per second
	Burst  uint32 `json:"burst"`
	Prefix int    `json:"prefix"`
}

// maskLength is the reverse of maskOf.
func maskLength(mask loader.Address) (length int) {
	for _, word := range mask.Word {
		length += bits.OnesCount32(word)
	}
	return length
}

// clientViews returns who may make flows, by row of services.
func (r *rows) clientViews() map[uint32]*ClientsView {
	views := map[uint32]*ClientsView{}
	at := func(row uint32) *ClientsView {
		if views[row] == nil {
			views[row] = &ClientsView{Allow: []netip.Prefix{}, Deny: []netip.Prefix{}}
		}
		return views[row]
	}
	for k, rule := range r.clients {
		if k.service == everyService {
			continue
		}
		if v := at(k.service); rule == clientRules[true] {
			v.Allow = append(v.Allow, prefixOf(k.prefix))
		} else {
			v.Deny = append(v.Deny, prefixOf(k.prefix))
		}
	}
	for i := range r.services {
		if s := &r.services[i]; s.Flags&serviceLimited != 0 {
			at(uint32(i)).Limit = &LimitView{Rate: s.LimitRate, Burst: s.LimitBurst, Prefix: maskLength(loader.Address(s.LimitMask))}
		}
	}
	for _, v := range views {
		slices.SortFunc(v.Allow, netip.Prefix.Compare)
		slices.SortFunc(v.Deny, netip.Prefix.Compare)
	}
	return views
}
