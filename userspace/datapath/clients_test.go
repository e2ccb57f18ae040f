package datapath

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead/loader"
	"fairlead/userspace/model"
)

func networks(list ...string) (all []netip.Prefix) {
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

// randomClients returns lists of networks of few addresses, so that many are
// in each other, or a limit, or nothing.
func randomClients(rng *rand.Rand) (c model.Clients) {
	seen := map[netip.Prefix]bool{}
	for range rng.IntN(6) {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(16))}), 28+rng.IntN(5)).Masked()
		switch {
		case seen[p]:
		case rng.IntN(2) == 0:
			c.Allow = append(c.Allow, p)
		default:
			c.Deny = append(c.Deny, p)
		}
		seen[p] = true
	}
	if rng.IntN(3) == 0 {
		c.Limit = model.Limit{Rate: 1 + rng.IntN(3), Burst: 1 + rng.IntN(3), Prefix: 8 + rng.IntN(25)}
	}
	return c
}

// decides returns what a trie says of a client; false if it says nothing.
func decides(trie map[network]uint32, row uint32, client netip.Addr) bool {
	best, rule := -1, uint32(0)
	for k, v := range trie {
		if k.service == row && k.prefix.Contains(client) && k.prefix.Bits() > best {
			best, rule = k.prefix.Bits(), v
		}
	}
	return rule == clientRules[true]
}

// some are clients of which each network of randomClients has one.
func some(f func(netip.Addr)) {
	for last := range byte(17) {
		f(netip.AddrFrom4([4]byte{10, 0, 0, last}))
	}
}

func checkClients(t *testing.T, step int, r *rows, s *Service) {
	t.Helper()
	row := r.listeners[s.listeners()[0]]
	have := r.services[row]
	if listed, limited := have.Flags&serviceListed != 0, have.Flags&serviceLimited != 0; listed != s.Clients.Listed() || limited != (s.Clients.Limit.Rate > 0) {
		t.Fatalf("step %d: %s has flags %#x", step, s.Name, have.Flags)
	}
	want := s.clients(row)
	got := maps.Clone(r.clients)
	maps.DeleteFunc(got, func(k network, _ uint32) bool { return k.service != row })
	if !maps.Equal(got, want) {
		t.Fatalf("step %d: %s has rules %v, want %v", step, s.Name, got, want)
	}
}

func TestNoClientMeetsAMixtureOfTwoLists(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		var a, b Service
		for !a.Clients.Listed() || !b.Clients.Listed() {
			a.Clients, b.Clients = randomClients(rng), randomClients(rng)
		}
		trie, old, new := a.clients(0), a.clients(0), b.clients(0)
		check := func() {
			some(func(c netip.Addr) {
				if got := decides(trie, 0, c); got != decides(old, 0, c) && got != decides(new, 0, c) {
					t.Fatalf("%v is told %t between %+v and %+v", c, got, a.Clients, b.Clients)
				}
			})
		}
		d := diff(old, new)
		for _, k := range longestFirst(slices.Collect(maps.Keys(d.put))) {
			trie[k] = d.put[k]
			check()
		}
		keys := longestFirst(d.del)
		slices.Reverse(keys)
		for _, k := range keys {
			delete(trie, k)
			check()
		}
		if !maps.Equal(trie, new) {
			t.Fatalf("the end is %v, want %v", trie, new)
		}
	}
}

func TestWhatADeadWriterLeftIsGoneBeforeItsRowHasAnOwner(t *testing.T) {
	r := empty(1)
	left := network{0, netip.MustParsePrefix("10.0.0.0/8")}
	beyond := network{99, netip.MustParsePrefix("0.0.0.0/0")}
	r.clients[left], r.clients[beyond] = clientRules[true], clientRules[true]
	s := service("a", 80, 1)
	s.Clients.Deny = networks("192.0.2.0/24")
	p := mustPlan(t, r, &Want{Services: []Service{s}})
	if len(p.staleClients) != 2 || p.clients.len() != 2 || len(p.clients.del) != 0 {
		t.Errorf("plan: stale %v, changes %+v", p.staleClients, p.clients)
	}
	execute(t, r, p)
	checkClients(t, 0, r, &s)
	if len(r.clients) != 2 {
		t.Errorf("clients are %v", r.clients)
	}
}

func TestListsAreWrittenToTheKernel(t *testing.T) {
	m := newMaps(t)
	w, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	s := service("a", 80, 1)
	s.Clients = model.Clients{
		Allow: networks("10.0.0.0/8", "198.51.100.7/32"), Deny: networks("10.1.0.0/16"),
		Limit: model.Limit{Rate: 3, Burst: 7, Prefix: 24},
	}
	want := &Want{Services: []Service{service("b", 81, 1), s}}
	wantWrites(t, w, want, -1)
	wantWrites(t, w, want, 0)
	wantRule(t, m, "10.2.0.1", true)
	wantRule(t, m, "10.1.0.1", false)
	wantRule(t, m, "198.51.100.7", true)
	wantRule(t, m, "198.51.100.8", false)
	limit := &LimitView{Rate: 3, Burst: 7, Prefix: 24}
	wantClients(t, m, &ClientsView{Allow: networks("10.0.0.0/8", "198.51.100.7/32"), Deny: networks("0.0.0.0/0", "10.1.0.0/16"), Limit: limit})

	want.Services[1].Clients.Allow = nil
	want.Services[1].Clients.Limit = model.Limit{}
	wantWrites(t, w, want, 4) // the row, everybody else, and two less
	wantWrites(t, w, want, 0)
	wantRule(t, m, "198.51.100.8", true)
	wantClients(t, m, &ClientsView{Allow: networks("0.0.0.0/0"), Deny: networks("10.1.0.0/16")})
	if again, err := New(m); err != nil {
		t.Error(err)
	} else {
		wantWrites(t, again, want, 0)
	}

	want.Services = want.Services[:1]
	wantWrites(t, w, want, -1)
	if left, err := loader.ReadHash[loader.ClientPrefix, uint32](m.Clients); err != nil || len(left) != 0 {
		t.Errorf("%v are left, %v", left, err)
	}
}

// wantWrites reconciles and wants so many writes; -1: any number but 0.
func wantWrites(t *testing.T, w *Writer, want *Want, n int) {
	t.Helper()
	if got, err := w.Reconcile(want); err != nil || got != n && (n >= 0 || got == 0) {
		t.Errorf("Reconcile = %d, %v, want %d", got, err, n)
	}
}

// wantRule wants the kernel to let a client make flows of the service in row 1, or not.
func wantRule(t *testing.T, m *loader.Maps, client string, may bool) {
	t.Helper()
	var rule uint32
	err := m.Clients.Lookup(loader.ClientPrefix{Len: 64, Service: 1, Addr: be32(netip.MustParseAddr(client))}, &rule)
	if err != nil || rule != clientRules[may] {
		t.Errorf("rule for %s is %d, %v", client, rule, err)
	}
}

// wantClients wants the view of service a.
func wantClients(t *testing.T, m *loader.Maps, want *ClientsView) {
	t.Helper()
	v, err := Read(m)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]*ClientsView{nil, want}, []*ClientsView{v.Services[0].Clients, v.Services[1].Clients}, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("clients (-want +got):\n%s", diff)
	}
}

func TestLimitsHaveAMaskOfTheirFamily(t *testing.T) {
	for _, row := range []struct {
		addr   string
		prefix int
		mask   string // as the kernel's words have it
	}{
		{"203.0.113.10", 24, "::ffff:ff00"},
		{"203.0.113.10", 32, "::ffff:ffff"},
		{"2001:db8::10", 64, "ffff:ffff:ffff:ffff::"},
		{"2001:db8::10", 33, "ffff:ffff:8000::"},
		{"2001:db8::10", 128, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	} {
		s := loader.Service{Addr: loader.AddressOf(netip.MustParseAddr(row.addr))}
		setLimit(&s, model.Limit{Rate: 1, Burst: 1, Prefix: row.prefix})
		if got := s.LimitMask.Addr().String(); got != row.mask || maskLength(loader.Address(s.LimitMask)) != row.prefix {
			t.Errorf("/%d of %s: mask %s, read as /%d, want %s", row.prefix, row.addr, got, maskLength(loader.Address(s.LimitMask)), row.mask)
		}
	}
}
