package config

import (
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"fairlead/userspace/model"
)

// notDefault are keys of services and pools that cannot be the same for all of
// them: they say which one it is, or need something that not all have.
var notDefault = []string{"name", "listen", "protocol", "backends", "routes", "zone-threshold", "syn-cookies", "redirect-https"}

// readDefaults lets services and pools have what the file at v says for all, and
// finds what is wrong with it, whether or not somebody uses it.
func (r *reader) readDefaults(v value) {
	n := lookup(v.Node, "defaults")
	if n == nil {
		return
	}
	r.defaults = v.at("defaults", n)
	s := newService(model.ForwardHTTP)
	var g group
	known := r.serviceFields(&s, &g)
	maps.Copy(known, r.namedFields(&s, &g))
	for _, key := range notDefault {
		delete(known, key)
	}
	r.object(r.defaults, known)
	r.defaults.Node = only(n, known)
}

// only returns n without keys that are not known.
func only(n *yaml.Node, known fields) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return n
	}
	left := *n
	left.Content = nil
	for i := 0; i < len(n.Content); i += 2 {
		if known[n.Content[i].Value] != nil {
			left.Content = append(left.Content, n.Content[i], n.Content[i+1])
		}
	}
	return &left
}

// withDefaults returns v with the defaults of keys that it has not, but for those
// that it cannot have.
func (r *reader) withDefaults(v value, lacks map[string]bool) value {
	if r.defaults.Node == nil || r.defaults.Kind != yaml.MappingNode || v.Kind != yaml.MappingNode {
		return v
	}
	n := *v.Node
	n.Content = slices.Clone(n.Content)
	all := r.defaults.Content
	for i := 0; i < len(all); i += 2 {
		if key := all[i].Value; !lacks[key] && lookup(v.Node, key) == nil {
			n.Content = append(n.Content, all[i], all[i+1])
		}
	}
	r.homes[&n] = r.home(v)
	return value{&n, v.path}
}

// lacks returns the keys that the service at v cannot have.
func (r *reader) lacks(v value) map[string]bool {
	lacks := map[string]bool{}
	add := func(keys []string) {
		for _, key := range keys {
			lacks[key] = true
		}
	}
	add(notDefault)
	forward := lookup(v.Node, "forward")
	if forward == nil {
		forward = lookup(r.defaults.Node, "forward")
	}
	switch {
	case forward != nil && forward.Value == string(model.ForwardTLS):
		add(slices.Concat(httpOnly, packetsOnly, poolsOnly))
	case forward == nil || forward.Value != string(model.ForwardHTTP):
		add(httpOnly)
	default:
		add(packetsOnly)
		lacks["tls"] = lookup(v.Node, "redirect-https") != nil
		if lookup(v.Node, "routes") != nil {
			add(poolsOnly)
		}
	}
	if p := lookup(v.Node, "protocol"); p != nil && p.Value == string(model.UDP) {
		add([]string{"health", "accept-proxy", "send-proxy"}) // which are of TCP services
	}
	return lacks
}

// poolLacks returns the keys that no pool can have.
func (r *reader) poolLacks() map[string]bool {
	s, g := newService(model.ForwardHTTP), group{}
	has := r.namedFields(&s, &g)
	lacks := map[string]bool{}
	for _, key := range notDefault {
		lacks[key] = true
	}
	for key := range r.serviceFields(&s, &g) {
		lacks[key] = lacks[key] || has[key] == nil
	}
	return lacks
}

// lookup returns the value of a key of n, nil if it has none.
func lookup(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
