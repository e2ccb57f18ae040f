package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// A value is a node of the file and the path that leads to it.
type value struct {
	*yaml.Node
	path string
}

// isPlainKey reports whether a key may stand in a path as it is.
func isPlainKey(key string) bool {
	odd := strings.ContainsFunc(key, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' && c != '-'
	})
	return key != "" && len(key) <= 60 && !odd
}

// at returns n as the value of key in v.
func (v value) at(key string, n *yaml.Node) value {
	if !isPlainKey(key) {
		key = quote(key)
	}
	if v.path == "" {
		return value{n, key}
	}
	return value{n, v.path + "." + key}
}

func (v value) item(i int) value {
	return value{v.Content[i], fmt.Sprintf("%s[%d]", v.path, i)}
}

// quote returns s for an error: in quotes, in one line, not too long.
func quote(s string) string {
	const limit = 60
	if utf8.RuneCountInString(s) > limit {
		s = string([]rune(s)[:limit-3]) + "..."
	}
	return strconv.Quote(s)
}

// A reader turns values into Go types and collects what is wrong with them.
// Its methods report false for a value that they have found at fault.
type reader struct {
	file string // the main one
	look bool   // at certificates, programs and the like that the configuration names
	// homes are the files of nodes that are not of the main one, or the flags or
	// edits that they come from; files are the former, in the order of reading.
	homes    map[*yaml.Node]string
	files    []string
	parts    []*yaml.Node  // tops of files that the main one includes
	named    []string      // paths that are named to be read
	defaults value         // without a node if there are none
	own      []ownListener // of the agent itself
	// registers are the pools whose backends may all have to register first.
	registers map[string]bool
	// inVault is what is in a KV store, as far as it is not of services.
	inVault []value
	secrets []secret
	// last are values of files that are in force, by how these are written, instead
	// why they count where the files have others now, and values those that were
	// taken.
	last    map[string]string
	instead error
	values  []fileValue
	faults  []Fault
	// before is what was read by then, and read what is now; nil if nobody is to
	// remember it.
	before, read map[digest]any
}

func (r *reader) fault(v value, format string, args ...any) {
	for i := range args {
		args[i] = r.mask(args[i])
	}
	f := Fault{r.home(v), v.Line, v.Column, v.path, fmt.Sprintf(format, args...)}
	switch {
	case f.File == editHome:
		f.Line, f.Column = 0, 0 // nobody has numbered the lines of an edit
	case f.Line == 0:
		f.Field = "" // a flag says what it is
	}
	r.faults = append(r.faults, f)
}

// home returns the file, or flag, that a value is from.
func (r *reader) home(v value) string {
	if h, ok := r.homes[v.Node]; ok {
		return h
	}
	return r.file
}

// place says where a value stands to somebody who looks at another one.
func (r *reader) place(v, from value) string {
	switch home := r.home(v); {
	case v.Line == 0:
		return home
	case home != r.home(from):
		return fmt.Sprintf("line %d of %s", v.Line, home)
	}
	return fmt.Sprintf("line %d", v.Line)
}

// refuse finds the parts of YAML that have no place in a configuration.
func (r *reader) refuse(v value) {
	switch {
	case v.Kind == yaml.AliasNode:
		r.fault(v, "aliases such as %s are not supported: write the value out", quote("*"+v.Value))
	case v.Style&yaml.TaggedStyle != 0:
		r.fault(v, "tags such as %s are not supported: remove the tag", quote(v.Tag))
	}
	for i, n := range v.Content {
		switch {
		case v.Kind == yaml.SequenceNode:
			r.refuse(v.item(i))
		case i%2 == 1:
			r.refuse(v.at(v.Content[i-1].Value, n))
		case n.Kind != yaml.ScalarNode:
			r.fault(value{n, v.path}, "a key must be a plain word")
		}
	}
}

// fields maps the keys of an object to what reads their values.
type fields map[string]func(value)

// object reads the keys of v and returns those that it met, each with its
// path and the place of the key itself.
func (r *reader) object(v value, known fields) map[string]value {
	met := map[string]value{}
	r.each(v, func(key, val value) {
		name := key.Value
		read, ok := known[name]
		switch {
		case ok:
			met[name] = key
			read(val)
		default:
			r.fault(key, "unknown key: %s", suggest(name, known))
		}
	})
	return met
}

// each calls f for every key of the mapping v and its value.
func (r *reader) each(v value, f func(key, val value)) {
	if v.Kind != yaml.MappingNode {
		example := "name: web"
		if v.Kind == yaml.ScalarNode && v.Value == "true" {
			example = "{} where defaults will do"
		}
		r.fault(v, "%s where keys with values must stand, such as %s", kind(v.Node), example)
		return
	}
	met := map[string]value{}
	for i := 0; i < len(v.Content); i += 2 {
		k := v.Content[i]
		key := v.at(k.Value, k)
		if by, ok := met[k.Value]; ok {
			r.fault(key, "the key stands in %s already: remove one of the two", r.place(by, key))
			continue
		}
		met[k.Value] = key
		f(key, v.at(k.Value, v.Content[i+1]))
	}
}

// require finds a key that v lacks.
func (r *reader) require(v value, met map[string]value, key, text string) {
	if _, ok := met[key]; !ok {
		r.fault(v.at(key, v.Node), "%s", text)
	}
}

// list calls f for every element of v.
func (r *reader) list(v value, f func(value)) bool {
	if v.Kind != yaml.SequenceNode {
		r.fault(v, "%s where a list must stand: write [] around it or - before each element", kind(v.Node))
		return false
	}
	for i := range v.Content {
		f(v.item(i))
	}
	return true
}

// text reads a scalar that is not empty.
func (r *reader) text(v value) (string, bool) {
	switch {
	case v.Kind != yaml.ScalarNode:
		r.fault(v, "%s where a single value must stand", kind(v.Node))
		return "", false
	case isNull(v.Node) || v.Value == "":
		r.fault(v, "has no value: give one, or remove the key")
		return "", false
	}
	return v.Value, true
}

func kind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a group of keys stands"
	case n.Kind == yaml.SequenceNode:
		return "a list stands"
	case isNull(n):
		return "nothing stands"
	}
	return quote(n.Value) + " stands"
}

// set reads text into p.
func (r *reader) set(v value, p *string) { *p, _ = r.text(v) }

// number reads a decimal number from low to high into p.
func (r *reader) number(v value, p *int, low, high int) bool {
	s, ok := r.text(v)
	if !ok {
		return false
	}
	n, err := strconv.Atoi(s)
	if err != nil || strconv.Itoa(n) != s || n < low || n > high {
		r.fault(v, "%s is not a number from %d to %d", quote(s), low, high)
		return false
	}
	*p = n
	return true
}

// duration reads a time such as 2s, from low to high, into p.
func (r *reader) duration(v value, p *time.Duration, low, high time.Duration) bool {
	s, ok := r.text(v)
	if !ok {
		return false
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		r.fault(v, "%s is not a time: write it like 500ms, 2s or 5m", quote(s))
		return false
	case d < low || d > high:
		r.fault(v, "%s is not from %s to %s", quote(s), span(low), span(high))
		return false
	}
	*p = d
	return true
}

// span formats d without the zero units that its String has.
func span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// boolean reads true or false into p.
func (r *reader) boolean(v value, p *bool) {
	s, ok := r.text(v)
	if ok && s != "true" && s != "false" {
		r.fault(v, "%s is neither true nor false", quote(s))
	}
	*p = s == "true"
}

// enum reads one of the built words into p. The later ones are words of the
// design that this version does not know.
func enum[T ~string](r *reader, v value, p *T, built []T, later ...string) bool {
	s, ok := r.text(v)
	if !ok {
		return false
	}
	if slices.Contains(built, T(s)) {
		*p = T(s)
		return true
	}
	what := "is unknown"
	if slices.Contains(later, s) {
		what = "is not supported by this version"
	}
	r.fault(v, "%s %s: use %s", quote(s), what, oneOf(built))
	return false
}

// oneOf returns "a, b or c".
func oneOf[T ~string](words []T) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}
