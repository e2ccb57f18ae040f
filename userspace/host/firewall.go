package host

import (
	"bytes"
	"fmt"
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
	var found []Rule
	for _, chain := range chains {
		rules, err := c.GetRules(chain.Table, chain)
		if err != nil {
			return nil, fmt.Errorf("list nftables rules of %s %s: %w", chain.Table.Name, chain.Name, err)
		}
		for _, r := range rules {
			for _, a := range addrs {
				if names(c, chain.Table, r, a.AsSlice()) {
					found = append(found, Rule{chain.Table.Name, chain.Name, a})
				}
			}
		}
	}
	return found, nil
}

// names reports whether a rule compares with the address.
func names(c *nftables.Conn, table *nftables.Table, r *nftables.Rule, addr []byte) bool {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Cmp:
			if bytes.Equal(e.Data, addr) {
				return true
			}
		case *expr.Lookup:
			set, err := c.GetSetByName(table, e.SetName)
			if err != nil {
				continue // gone since the rules were listed
			}
			elements, err := c.GetSetElements(set)
			if err != nil {
				continue
			}
			for _, el := range elements {
				if len(el.Key) >= len(addr) && bytes.Equal(el.Key[:len(addr)], addr) {
					return true
				}
			}
		}
	}
	return false
}
