package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"fairlead/userspace/control"
)

// conditionKeys are those of a route that say which requests of its pattern it takes.
var conditionKeys = []string{"headers", "query", "cookies", "clients"}

// editRoutes puts or removes routes. A route is known by its match and, if it has
// any, its conditions; without these a removal takes all of that match.
func (t *Tree) editRoutes(e *control.Edit) error {
	services, at := t.service(e.Service)
	if at < 0 {
		return noService(e.Service)
	}
	path := fmt.Sprintf("services[%d].routes", at)
	routes := lookup(services.Content[at], "routes")
	if routes == nil || routes.Kind != yaml.SequenceNode {
		return fmt.Errorf("routes of service %s: %w", quote(e.Service), control.ErrNotFound)
	}
	if e.Op == control.OpRemoveRoute {
		return t.removeRoutes(routes, e)
	}
	n, err := t.newRoute(e, path)
	if err != nil {
		return err
	}
	if _, at = t.route(e, n); at >= 0 {
		routes.Content[at] = n
		return nil
	}
	// Before the one that takes all of the same pattern.
	if at = slices.IndexFunc(routes.Content, func(r *yaml.Node) bool { return t.matches(r, e.Match) && !conditional(r) }); at < 0 {
		at = len(routes.Content)
	}
	routes.Content = slices.Insert(routes.Content, at, n)
	return nil
}

// route returns the routes of an edit's service, and the index of the one in whose
// place n would stand; -1 if there is none.
func (t *Tree) route(e *control.Edit, n *yaml.Node) (routes *yaml.Node, at int) {
	services, at := t.service(e.Service)
	if at < 0 {
		return nil, -1
	}
	routes = lookup(services.Content[at], "routes")
	if routes == nil || routes.Kind != yaml.SequenceNode {
		return nil, -1
	}
	return routes, slices.IndexFunc(routes.Content, func(r *yaml.Node) bool { return t.matches(r, e.Match) && sameConditions(r, n) })
}

func (t *Tree) removeRoutes(routes *yaml.Node, e *control.Edit) error {
	left := slices.DeleteFunc(slices.Clone(routes.Content), func(n *yaml.Node) bool { return t.matches(n, e.Match) })
	if len(left) == len(routes.Content) {
		return fmt.Errorf("route %s of service %s: %w", quote(e.Match), quote(e.Service), control.ErrNotFound)
	}
	routes.Content = left
	return nil
}

func (t *Tree) newRoute(e *control.Edit, path string) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	t.setKey(n, "match", word(e.Match))
	if e.Pool != "" {
		t.setKey(n, "pool", word(e.Pool))
	}
	t.settle(n)
	if e.Spec == "" {
		return n, nil
	}
	more, err := t.spec(e, path)
	if err != nil {
		return nil, err
	}
	n.Content = append(n.Content, more.Content...)
	return n, nil
}

// matches reports whether a route is of a pattern, whatever blanks it has.
func (t *Tree) matches(route *yaml.Node, match string) bool {
	return plainMatch(t.text(lookup(route, "match"))) == plainMatch(t.text(word(match)))
}

func plainMatch(match string) string { return strings.Join(strings.Fields(match), " ") }

func conditional(route *yaml.Node) bool {
	return slices.ContainsFunc(conditionKeys, func(key string) bool { return lookup(route, key) != nil })
}

func sameConditions(a, b *yaml.Node) bool {
	return !slices.ContainsFunc(conditionKeys, func(key string) bool {
		return !bytes.Equal(canonical(lookup(a, key)), canonical(lookup(b, key)))
	})
}

// canonical returns the same text for nodes that say the same.
func canonical(n *yaml.Node) []byte {
	if n == nil {
		return nil
	}
	if n.Kind == yaml.ScalarNode {
		return fmt.Appendf(nil, "%q", n.Value)
	}
	var all [][]byte
	step := 1
	if n.Kind == yaml.MappingNode {
		step = 2
	}
	for i := 0; i+step <= len(n.Content); i += step {
		item := canonical(n.Content[i])
		if step == 2 {
			item = append(append(item, ':'), canonical(n.Content[i+1])...)
		}
		all = append(all, item)
	}
	if step == 2 {
		slices.SortFunc(all, bytes.Compare)
	}
	return append(append([]byte{'['}, bytes.Join(all, []byte(","))...), ']')
}

// within says where in a service something stands that has no line because an edit says
// it, perhaps one of long ago.
func (r *reader) within(s *service, v value) string {
	if r.home(v) != editHome {
		return ""
	}
	if routes := s.http.routes.Node; routes != nil {
		for _, n := range routes.Content {
			name := cmp.Or(lookup(n, "match"), lookup(n, "server-name"))
			if name != nil && has(n, v.Node) {
				return fmt.Sprintf(" (in route %s of service %s)", quote(name.Value), quote(s.Name))
			}
		}
	}
	return fmt.Sprintf(" (in service %s)", quote(s.Name))
}

// has reports whether a node is part, or has it below.
func has(n, part *yaml.Node) bool {
	return n == part || slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return has(c, part) })
}
