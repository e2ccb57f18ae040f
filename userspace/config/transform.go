package config

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"fairlead/userspace/model"
)

// Bounds and defaults of what is done to bodies.
const (
	maxMinSize     = 1 << 30
	defaultMinSize = 1024
	maxFind        = 1024
	maxWith        = 64 << 10
)

var (
	defaultTypes = []string{
		"text/*", "application/javascript", "application/json", "application/manifest+json", "application/xhtml+xml", "application/xml", "image/svg+xml",
	}
	encodings = []string{"zstd", "br", "gzip"}
)

// compress reads which answers are compressed.
func (r *reader) compress(v value) *model.Compress {
	c := model.Compress{Types: defaultTypes, MinSize: defaultMinSize, Encodings: encodings}
	r.object(v, fields{
		"types":    func(v value) { c.Types = r.types(v) },
		"min-size": func(v value) { r.number(v, &c.MinSize, 0, maxMinSize) },
		"encodings": func(v value) {
			c.Encodings = r.some(v, func(v value, s *string) bool { return enum(r, v, s, encodings) })
		},
	})
	return &c
}

// replace reads what is put in place of other texts.
func (r *reader) replace(v value) *model.Replace {
	p := model.Replace{Types: defaultTypes}
	met := r.object(v, fields{
		"types": func(v value) { p.Types = r.types(v) },
		"texts": func(v value) {
			ok := r.list(v, func(v value) { p.Texts = append(p.Texts, r.replacement(v)) })
			if ok && len(v.Content) == 0 {
				r.fault(v, "is empty: list at least one, such as - {find: old, with: new}")
			}
		},
	})
	r.require(v, met, "texts", "is missing: list what is replaced, such as - {find: old, with: new}")
	return &p
}

func (r *reader) replacement(v value) (t model.Replacement) {
	met := r.object(v, fields{
		"find": func(v value) { r.bounded(v, &t.Find, maxFind) },
		"with": func(v value) {
			if v.Kind == yaml.ScalarNode && v.Value == "" && v.Style != 0 {
				return // "" is a good text
			}
			r.bounded(v, &t.With, maxWith)
		},
	})
	if len(met) > 0 {
		r.require(v, met, "find", "is missing: give the text that is replaced")
		r.require(v, met, "with", `is missing: give the text that is put in its place, such as ""`)
	}
	return t
}

// bounded reads a text of at most so many bytes into p.
func (r *reader) bounded(v value, p *string, most int) {
	if r.set(v, p); len(*p) > most {
		r.fault(v, "%s has more than %d bytes: shorten it", quote(*p), most)
	}
}

var typeSyntax = regexp.MustCompile(`^[a-z0-9.+-]+/(\*|[a-z0-9.+-]+)$`)

// types reads types of bodies.
func (r *reader) types(v value) []string {
	return r.some(v, func(v value, s *string) bool {
		var ok bool
		*s, ok = r.text(v)
		switch {
		case !ok:
		case !typeSyntax.MatchString(*s):
			r.fault(v, "%s is not a type: write it like text/html or text/*, in lower case and without parameters", quote(*s))
		case strings.HasPrefix(*s, "application/grpc"):
			r.fault(v, "%s is not for proxies to change: remove it", quote(*s))
		default:
			return true
		}
		return false
	})
}

// some reads a list of different words that is not empty.
func (r *reader) some(v value, read func(v value, s *string) bool) (all []string) {
	ok := r.list(v, func(v value) {
		var s string
		switch {
		case !read(v, &s):
		case slices.Contains(all, s):
			r.fault(v, "%s stands in the list already: remove one of the two", quote(s))
		default:
			all = append(all, s)
		}
	})
	if ok && len(v.Content) == 0 {
		r.fault(v, "is empty: list at least one, or remove the key")
	}
	return all
}
