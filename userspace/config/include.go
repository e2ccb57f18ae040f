package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// include reads the files that v names, whose top has the keys of known.
func (r *reader) include(v value, known fields) {
	if v.Kind == yaml.ScalarNode {
		r.includeAll(v, known)
		return
	}
	r.list(v, func(v value) { r.includeAll(v, known) })
}

// includeAll reads the files that fit one pattern, in the order of their names.
func (r *reader) includeAll(v value, known fields) {
	pattern, ok := r.text(v)
	if !ok {
		return
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
		data, err := os.ReadFile(name)
		if err != nil {
			r.fault(v, "cannot be read: %v", err)
			continue
		}
		if top, ok := r.open(name, data); ok {
			r.object(top, known)
		}
	}
}

// beside returns the path of a file that the main one names.
func (r *reader) beside(name string) string {
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(r.file), name)
	}
	name = filepath.Clean(name)
	r.named = append(r.named, name)
	return name
}
