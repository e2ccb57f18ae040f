package config

import (
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"fairlead/internal/regular"
)

// LastRead holds what files had that are a part of the configuration in force: those of
// secrets (file:/path), error pages and lists of users. One that cannot be read any more,
// or has what will not do, counts with that, so that it is in nobody's way who changes
// something else. Methods may be called from any goroutine.
type LastRead struct {
	tell func(name string, err error)

	mu sync.Mutex
	// inForce are values by what names them, "file:path" or a path, as it is written. It
	// is not changed, but another one takes its place.
	inForce map[string]string
	// read are those that good configurations had since Use, each the last one.
	read map[string]string
	told map[string]string // of files whose last value counts, by name
}

// NewLastRead returns a LastRead that knows nothing. It has tell called with the name
// of a file, as it is written, and why its last value counts: once, until it is good
// again or something else is wrong with it. tell must not call the LastRead.
func NewLastRead(tell func(name string, err error)) *LastRead {
	return &LastRead{tell: tell, read: map[string]string{}, told: map[string]string{}}
}

// Beside returns t with l to fall back on, and so it is with what edits make of it.
func (t *Tree) Beside(l *LastRead) *Tree {
	x := *t
	x.last = l
	return &x
}

// Use makes the values of files that trees name those in force, as they were read last.
func (l *LastRead) Use(trees ...*Tree) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.read) == 0 && len(l.inForce) == 0 {
		return
	}
	now := map[string]string{}
	for _, t := range trees {
		for _, top := range append([]*yaml.Node{t.root}, t.parts...) {
			l.collect(top, now)
		}
	}
	l.inForce = now
	clear(l.read)
}

// collect adds the values of the files that a node and all below it name.
func (l *LastRead) collect(n *yaml.Node, now map[string]string) {
	if n == nil {
		return
	}
	if n.Kind == yaml.ScalarNode {
		name := n.Value
		if !strings.HasPrefix(name, "file:") && strings.Contains(name, "{") {
			name = (&reader{}).variables(value{Node: n}, name)
		}
		if text, ok := l.read[name]; ok {
			now[name] = text
		} else if text, ok := l.inForce[name]; ok {
			now[name] = text
		}
	}
	for _, c := range n.Content {
		l.collect(c, now)
	}
}

// values returns those in force. They must not be changed.
func (l *LastRead) values() map[string]string {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inForce
}

// note takes over what a good configuration has read.
func (l *LastRead) note(files []fileValue) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range files {
		l.read[f.name] = f.text
		if f.err == nil {
			delete(l.told, f.name)
			continue
		}
		if why := f.err.Error(); l.told[f.name] != why {
			l.told[f.name] = why
			l.tell(f.name, f.err)
		}
	}
}

// A fileValue is what a file has, whose name is as it is written.
type fileValue struct {
	name, text string
	err        error // why text is what it had last
}

// take has f, as it was read, count with what it had last if it could not be, or is not
// to count. It reports whether there is a text.
func (r *reader) take(f *fileValue) bool {
	last, known := r.last[f.name]
	if known && f.err == nil && f.text != last {
		f.err = r.instead
	}
	switch {
	case f.err != nil && known:
		f.text = last
	case f.err != nil:
		return false
	}
	r.values = append(r.values, *f)
	return true
}

// readAtMost reads a file, which is [errLarge] if it has more than limit bytes.
func readAtMost(path string, limit int64) (string, error) {
	f, err := regular.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := limited(f, limit)
	return string(data), err
}

// hasOther reports whether some file has another value than the one in force.
func (r *reader) hasOther() bool {
	return slices.ContainsFunc(r.values, func(f fileValue) bool {
		last, ok := r.last[f.name]
		return ok && f.err == nil && f.text != last
	})
}
