package host

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// A Rule is an nftables rule that names an address.
type Rule struct {
	Table, Chain string
	Addr         netip.Addr
}

// FirewallRules returns the nftables rules that compare with one of addrs, by
// itself or in a named or anonymous set. XDP runs before them, so they do not
// see what it forwards.
func FirewallRules(addrs []netip.Addr) ([]Rule, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	look := finder{conn: c, wanted: map[string]bool{}, sets: map[setName][]string{}}
	for _, a := range addrs {
		look.wanted[string(a.AsSlice())] = true
	}
	var found []Rule
	for _, chain := range chains {
		rules, err := c.GetRules(chain.Table, chain)
		if err != nil {
			return nil, fmt.Errorf("list nftables rules of %s %s: %w", chain.Table.Name, chain.Name, err)
		}
		for _, r := range rules {
			for _, a := range look.named(chain.Table, r) {
				addr, _ := netip.AddrFromSlice([]byte(a))
				found = append(found, Rule{chain.Table.Name, chain.Name, addr})
			}
		}
	}
	return found, nil
}

// A finder finds addresses in rules. Each set is read once.
type finder struct {
	conn   *nftables.Conn
	wanted map[string]bool // addresses as bytes
	sets   map[setName][]string
}

type setName struct {
	family nftables.TableFamily
	table  string
	set    string
}

// named returns the wanted addresses that a rule compares with.
func (f *finder) named(table *nftables.Table, r *nftables.Rule) (found []string) {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Cmp:
			if f.wanted[string(e.Data)] {
				found = append(found, string(e.Data))
			}
		case *expr.Lookup:
			found = append(found, f.inSet(table, e.SetName)...)
		}
	}
	return found
}

// inSet returns the wanted addresses that are first in an element of a set. A
// set that is gone since the rules were listed has none.
func (f *finder) inSet(table *nftables.Table, name string) []string {
	key := setName{table.Family, table.Name, name}
	if found, ok := f.sets[key]; ok {
		return found
	}
	f.sets[key] = nil
	set, err := f.conn.GetSetByName(table, name)
	if err != nil {
		return nil
	}
	elements, err := f.conn.GetSetElements(set)
	if err != nil {
		return nil
	}
	for _, el := range elements {
		for _, n := range []int{net.IPv4len, net.IPv6len} {
			if n <= len(el.Key) && f.wanted[string(el.Key[:n])] {
				f.sets[key] = append(f.sets[key], string(el.Key[:n]))
			}
		}
	}
	return f.sets[key]
}
