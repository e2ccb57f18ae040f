package datapath

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/userspace/balance"
	"fairlead/userspace/model"
)

// rowsWith returns the rows of services.
func rowsWith(t *testing.T, services ...Service) *rows {
	t.Helper()
	r := empty(4)
	execute(t, r, mustPlan(t, r, &Want{Services: services}))
	return r
}

// answerOf is that of a packet of a service's row, which some tries were made for.
func answerOf(r *rows, row uint32, verdict loader.Verdict, attempts ...loader.Told) *loader.Answer {
	a := &loader.Answer{Told: loader.Told{
		Parts:   uint32(loader.LBToldPartTOLD_SERVICE | loader.LBToldPartTOLD_CHOICE),
		Verdict: uint32(verdict), Service: row, ServiceGen: r.services[row].Gen, Run: r.services[row].Slots, Tries: uint32(len(attempts)),
	}}
	for i, t := range attempts {
		a.Attempts[i] = t.Attempts[0]
	}
	return a
}

// attempt is a try that ended with a verdict.
func attempt(number uint64, slot, other, backend uint32, verdict loader.Verdict) (t loader.Told) {
	at := &t.Attempts[0]
	at.Number, at.Slot, at.Other, at.Backend, at.Verdict = number, slot, other, backend, uint32(verdict)
	return t
}

// reasons returns why backends were not chosen, by their number in the service.
func reasons(c *Choice, s *Service) map[int]Why {
	why := map[int]Why{}
	for _, o := range c.Rest {
		why[slices.IndexFunc(s.Backends, func(b model.Backend) bool { return b.Address.String() == o.Backend })] = o.Why
	}
	return why
}

func TestWhyBackendsAreNotChosen(t *testing.T) {
	turns, two := service("turns", 80, 1, 1, 0, 1), service("two", 81, 1, 1, 1)
	turns.Down = []bool{false, false, false, true}
	two.Balance.Method = model.P2C
	r := rowsWith(t, turns, two)
	q := loader.Question{}
	connections := make([]loader.Connections, len(r.backends))
	row := r.listeners[turns.listeners()[0]]
	first := uint32(r.services[row].Slots >> 32)
	c := r.choice(answerOf(r, row, loader.LBVerdictFORWARD_TX, attempt(6, first, noSlot, r.slots[first], loader.LBVerdictFORWARD_TX)), q, connections)
	if diff := cmp.Diff(map[int]Why{1: WhyNotChosen, 2: WhyNoWeight, 3: WhyDown}, reasons(c, &turns)); diff != "" || c.Promise {
		t.Errorf("in turn: -want +got\n%s", diff)
	}
	row = r.listeners[two.listeners()[0]]
	first = uint32(r.services[row].Slots >> 32)
	connections[r.slots[first+1]] = loader.Connections{Gen: r.backends[r.slots[first+1]].Gen, Count: 5}
	c = r.choice(answerOf(r, row, loader.LBVerdictFORWARD_TX, attempt(0, first+1, first, r.slots[first], loader.LBVerdictFORWARD_TX)), q, connections)
	if diff := cmp.Diff(map[int]Why{1: WhyBusier, 2: WhyNotChosen}, reasons(c, &two)); diff != "" || c.Rest[0].Connections != 5 {
		t.Errorf("of two: %+v, -want +got\n%s", c.Rest, diff)
	}
	a := answerOf(r, row, loader.LBVerdictANSWER_RESET)
	a.Run = 0
	if c := r.choice(a, q, connections); c.Slots != 0 || len(c.Tries) != 0 || len(c.Rest) != 3 {
		t.Errorf("nobody: %+v", c)
	}
}

// TestPassedOverIsWhoTheHashLeadsToFirst wants the hashes of two tries to be followed.
func TestPassedOverIsWhoTheHashLeadsToFirst(t *testing.T) {
	s := service("bounded", 80, 1, 1, 1, 1)
	s.Balance = model.Balance{Method: model.Maglev, TableSize: 7, Seed: 3, MaxLoad: 110}
	r := rowsWith(t, s)
	row := r.listeners[s.listeners()[0]]
	q := loader.Question{From: netip.MustParseAddrPort("198.51.100.1:40000"), To: s.Listen}
	first, n := r.services[row].Slots>>32, uint64(uint32(r.services[row].Slots))
	want := map[int]Why{0: WhyNotChosen, 1: WhyNotChosen, 2: WhyNotChosen, 3: WhyNotChosen}
	number := func(row uint32) int {
		return slices.IndexFunc(s.Backends, func(b model.Backend) bool { return b.Address.String() == r.backendText(row) })
	}
	hash := balance.Hash(&s.Service, q.From, q.To)
	var tries []loader.Told
	for range 2 { // each takes the second slot that it looks at
		want[number(r.slots[first+hash%n])] = WhyOver
		hash = balance.Rehash(hash)
		slot := uint32(first + hash%n)
		tries = append(tries, attempt(hash, slot, noSlot, r.slots[slot], loader.LBVerdictDROP_NO_ROUTE))
		hash = balance.Rehash(hash)
	}
	for _, try := range tries {
		delete(want, number(try.Attempts[0].Backend))
	}
	c := r.choice(answerOf(r, row, loader.LBVerdictDROP_NO_ROUTE, tries...), q, make([]loader.Connections, len(r.backends)))
	if diff := cmp.Diff(want, reasons(c, &s)); diff != "" || c.Promise || len(want) == 0 {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestReadingsAgreeUnlessTheServiceHasChanged(t *testing.T) {
	web, other := service("web", 80, 1, 1), service("other", 81, 1)
	web.ClientZones = clientZones(map[string]string{"10.1.0.0/16": "east", "10.2.0.0/16": "west"})
	web.Clients.Deny, other.Clients.Deny = networks("10.9.0.0/16"), networks("10.9.0.0/16")
	before := rowsWith(t, web, other)
	row := before.listeners[web.listeners()[0]]
	zones := before.zonesOf(&before.services[row])
	a := answerOf(before, row, loader.LBVerdictFORWARD_TX)
	a.Parts, a.Zone = a.Parts|uint32(loader.LBToldPartTOLD_ZONE), zones[1]
	deny := func(service uint32) network { return network{service, netip.MustParsePrefix("10.9.0.0/16")} }
	for _, change := range []struct {
		name  string
		edit  func(r *rows)
		agree bool
	}{
		{"nothing", func(*rows) {}, true},
		{"another service's backend", func(r *rows) {
			r.backends[r.slots[r.services[r.listeners[other.listeners()[0]]].Slots>>32]].State = backendDown
		}, true},
		{"the service", func(r *rows) { r.services[row].Gen++ }, false},
		{"a backend", func(r *rows) { r.backends[r.slots[a.Run>>32]].State = backendDown }, false},
		{"a slot", func(r *rows) { r.slots[a.Run>>32] = r.slots[a.Run>>32+1] }, false},
		{"the client's zone", func(r *rows) { r.services[zones[1]].Gen++ }, false},
		{"another zone", func(r *rows) { r.services[zones[0]].Gen++ }, true},
		{"a list", func(r *rows) { delete(r.clients, deny(row)) }, false},
		{"a rule", func(r *rows) { r.clients[deny(row)] = clientRules[true] }, false},
		{"another service's list", func(r *rows) { delete(r.clients, deny(r.listeners[other.listeners()[0]])) }, true},
	} {
		now := rowsWith(t, web, other)
		change.edit(now)
		if now.agree(before, a) != change.agree {
			t.Errorf("%s has changed: agree is %v", change.name, !change.agree)
		}
	}
}

func TestWhatListsSayOfAClient(t *testing.T) {
	s := service("web", 80, 1)
	s.Clients = model.Clients{
		Allow: networks("10.0.0.0/8", "10.1.1.7/32"), Deny: networks("10.1.0.0/16"), Limit: model.Limit{Rate: 5, Burst: 9, Prefix: 24},
	}
	open := service("open", 81, 1)
	r := rowsWith(t, s, open)
	row := r.listeners[s.listeners()[0]]
	for client, want := range map[string]struct {
		rule    string
		allowed bool
	}{"10.9.9.9": {"10.0.0.0/8", true}, "10.1.1.6": {"10.1.0.0/16", false}, "10.1.1.7": {"10.1.1.7/32", true}, "192.0.2.1": {"0.0.0.0/0", false}} {
		c := r.explainedClient(row, netip.MustParseAddr(client))
		if c == nil || c.Rule == nil || c.Rule.String() != want.rule || c.Allowed != want.allowed || *c.Limit != (LimitView{5, 9, 24}) {
			t.Errorf("%s: %+v, want %v", client, c, want)
		}
	}
	if c := r.explainedClient(r.listeners[open.listeners()[0]], netip.MustParseAddr("10.1.1.6")); c != nil {
		t.Errorf("a service without lists says %+v", c)
	}
}

// TestListsThatGoMeanwhileSayNothing has a service whose row is read before it loses
// its lists, and these after that.
func TestListsThatGoMeanwhileSayNothing(t *testing.T) {
	s := service("web", 80, 1)
	s.Clients.Deny = networks("10.1.0.0/16")
	r := rowsWith(t, s)
	clear(r.clients)
	if c := r.explainedClient(r.listeners[s.listeners()[0]], netip.MustParseAddr("10.1.1.6")); c.Rule != nil || c.Allowed || c.Limit != nil {
		t.Errorf("lists that are gone say %+v", c)
	}
}

// TestExplainNamesNoStrangers has a flow whose service and backend are there, have
// left, and have left their rows to others.
func TestExplainNamesNoStrangers(t *testing.T) {
	was, zoned := service("was", 80, 1), service("other", 81, 1)
	zoned.ClientZones = someZones[1] // whose rows are of services, too
	r := rowsWith(t, was)
	row := r.listeners[was.listeners()[0]]
	backend := r.slots[r.services[row].Slots>>32]
	a := &loader.Answer{Told: loader.Told{
		Parts:   uint32(loader.LBToldPartTOLD_FLOW),
		Service: row, ServiceGen: r.services[row].Gen, Backend: backend, BackendGen: r.backends[backend].Gen,
	}}
	explain := func() (e Explanation) {
		r.explainService(&e, a)
		r.explainFlow(&e, a, 250)
		return e
	}
	if e := explain(); e.Service == nil || e.Service.Name != "was" || e.Flow.Backend != was.Backends[0].Address.String() {
		t.Errorf("a flow is of service %+v, to backend %q", e.Service, e.Flow.Backend)
	}
	for _, want := range []*Want{{}, {Services: []Service{zoned}}} {
		execute(t, r, mustPlan(t, r, want))
		if e := explain(); e.Service != nil || e.Flow.Backend != "" {
			t.Errorf("a flow that is gone is of service %+v, to backend %q", e.Service, e.Flow.Backend)
		}
	}
	if r.services[row].State == serviceNone || r.backends[backend].State == backendNone {
		t.Error("nobody has got the rows")
	}
}

func TestNearbyIsTheSamePortFirst(t *testing.T) {
	r := rowsWith(t, service("web", 80, 1), service("tls", 443, 1), service("mail", 25, 1))
	var names []string
	for _, s := range r.nearby(netip.MustParseAddrPort("203.0.113.1:443")) {
		names = append(names, s.Name)
	}
	if len(names) != 3 || names[0] != "tls" || r.nearby(netip.MustParseAddrPort("203.0.113.2:443")) != nil {
		t.Errorf("near are %v", names)
	}
}
