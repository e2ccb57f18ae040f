package config

import (
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// include reads the files that v names and returns their tops.
func (r *reader) include(v value) (tops []*yaml.Node) {
	t := Tree{homes: map[*yaml.Node]string{}}
	v.Node = t.copyNode(v.Node, nil)
	before := len(r.faults)
	if r.expand(v); len(r.faults) > before {
		return nil
	}
	if v.Kind == yaml.ScalarNode {
		return r.includeAll(v)
	}
	r.list(v, func(v value) { tops = append(tops, r.includeAll(v)...) })
	return tops
}

// includeAll reads the files that fit one pattern, in the order of their names.
func (r *reader) includeAll(v value) (tops []*yaml.Node) {
	pattern, ok := r.text(v)
	if !ok {
		return nil
	}
	names, err := filepath.Glob(r.beside(pattern))
	switch {
	case err != nil:
		r.fault(v, "%s is not a pattern: write it like conf.d/*.yaml", quote(pattern))
	case len(names) == 0 && !strings.ContainsAny(pattern, `*?[`):
		r.fault(v, "%s does not exist: correct the name, or remove it", quote(pattern))
	}
	for _, name := range names {
		if slices.Contains(r.files, name) {
			continue // another pattern, or the main file itself
		}
		data, err := readIncluded(name)
		if err != nil {
			r.fault(v, "cannot be read: %v", err)
			continue
		}
		if top := r.open(name, data); top != nil {
			tops = append(tops, top)
		}
	}
	return tops
}
