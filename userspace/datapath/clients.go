package datapath

import (
	"cmp"
	"encoding/binary"
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

// rowBits is the part of a key's length that is for the service's row.
const rowBits = 32

// clients returns the rules of a service in a row, as the clients map has them.
func (s *Service) clients(row uint32) map[loader.ClientPrefix]uint32 {
	rules := map[loader.ClientPrefix]uint32{}
	for p, may := range s.Clients.Rules() {
		rules[loader.ClientPrefix{Len: rowBits + uint32(p.Bits()), Service: row, Addr: be32(p.Addr())}] = clientRules[may]
	}
	return rules
}

// setLimit fills in what row says of the limit of each network. Credit that they
// have from a former owner of the row may stay in the sources map: it counts for
// one burst at most, and what is missing comes back at the new rate.
func setLimit(row *loader.Service, l model.Limit) {
	if l.Rate == 0 {
		return
	}
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-l.Prefix))
	row.LimitMask.Word[3], row.LimitRate, row.LimitBurst = binary.NativeEndian.Uint32(mask), uint32(l.Rate), uint32(l.Burst)
}

// clients plans what becomes of the clients map. Entries of rows that have no
// owner, which a writer that died has left, are stale: they must be gone before
// the row has a new one.
func (p *planner) clients(want map[loader.ClientPrefix]uint32) {
	have := maps.Clone(p.have.clients)
	for k := range have {
		if int(k.Service) >= len(p.have.services) || p.have.services[k.Service].State == serviceNone {
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
func longestFirst(keys []loader.ClientPrefix) []loader.ClientPrefix {
	slices.SortFunc(keys, func(a, b loader.ClientPrefix) int { return cmp.Compare(b.Len, a.Len) })
	return keys
}

// putClients writes what is new before any service asks for it.
func (w *Writer) putClients(p *plan) error {
	if err := deleteKeys(w.maps.Clients, w.rows.clients, p.staleClients); err != nil {
		return err
	}
	return putKeys(w.maps.Clients, w.rows.clients, longestFirst(slices.Collect(maps.Keys(p.clients.put))), p.clients.put)
}

// deleteClients deletes what is over. A packet on its way may have seen a
// service that had lists just now, and must still find them.
func (w *Writer) deleteClients(p *plan) error {
	if len(p.clients.del) == 0 {
		return nil
	}
	if err := loader.WaitForPackets(); err != nil {
		return err
	}
	keys := longestFirst(p.clients.del)
	slices.Reverse(keys)
	return deleteKeys(w.maps.Clients, w.rows.clients, keys)
}

// A ClientsView says who may make flows of a service, and how many.
type ClientsView struct {
	// Allow and Deny are networks, in order; the longest that a client is in
	// decides. 0.0.0.0/0 is everybody else.
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
		v, p := at(k.Service), netip.PrefixFrom(addr4(k.Addr), int(k.Len)-rowBits)
		if rule == clientRules[true] {
			v.Allow = append(v.Allow, p)
		} else {
			v.Deny = append(v.Deny, p)
		}
	}
	for i := range r.services {
		if s := &r.services[i]; s.Flags&serviceLimited != 0 {
			at(uint32(i)).Limit = &LimitView{Rate: s.LimitRate, Burst: s.LimitBurst, Prefix: bits.OnesCount32(s.LimitMask.Word[3])}
		}
	}
	for _, v := range views {
		slices.SortFunc(v.Allow, netip.Prefix.Compare)
		slices.SortFunc(v.Deny, netip.Prefix.Compare)
	}
	return views
}
