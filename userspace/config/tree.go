package config

import (
	"bytes"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"fairlead/userspace/model"
)

// A Tree is a configuration as it is written: a file and those that it includes,
// perhaps with edits on top, while variables and files of secrets still go by their
// names. It does not change, and may be used by several goroutines.
type Tree struct {
	file string // the main one
	root *yaml.Node
	// parts are the tops of the files that root includes.
	parts []*yaml.Node
	// homes are the files, flags or edits of nodes that are not of the main file.
	homes map[*yaml.Node]string
	files []string // in the order of reading
	named []string // paths that the files as such name to be read
	// faults are those of the files as such. What else is wrong State finds.
	faults []Fault
	memo   *memo // of it and of what is made of it
	// plains are the plain texts of backends, while one goroutine alone has the Tree; nil:
	// they are not kept.
	plains map[*yaml.Node]string
	last   *LastRead
}

// Read reads the file at path and those that it includes. The error is the cause if
// it cannot be read; what is wrong with the contents [Tree.State] tells.
func Read(path string) (*Tree, error) {
	data, err := ReadFile(path)
	if err != nil {
		return nil, loadError{err}
	}
	return NewTree(path, data), nil
}

// NewTree is [Read] of a file whose contents are at hand: name stands for it in
// errors, and files that it names are looked for beside it.
func NewTree(name string, data []byte) *Tree { return NewTreeBeside(name, name, data) }

// NewTreeBeside is [NewTree] where files are looked for beside the one at path.
func NewTreeBeside(path, name string, data []byte) *Tree {
	r := &reader{file: path, homes: map[*yaml.Node]string{}}
	t := &Tree{file: path, memo: &memo{}}
	if t.root = r.open(name, data); t.root != nil {
		if v := lookup(t.root, "include"); v != nil {
			t.parts = r.include(value{v, "include"})
		}
	}
	t.homes, t.files, t.named, t.faults = r.homes, r.files, r.named, r.faults
	return t
}

// State returns what the configuration means, with every default. Its error joins
// one [Fault] for each mistake, in the order of the files. With look, certificates,
// programs and the file of a token that the configuration names are looked at, too.
// What files had last counts as [LastRead] says.
func (t *Tree) State(look bool) (model.State, error) {
	var before map[digest]any
	if !look {
		before = t.memo.get()
	}
	last := t.last.values()
	r, s := t.read(&reader{look: look, last: last}, before)
	if len(r.faults) > 0 && before != nil {
		r, s = t.read(&reader{look: look, last: last}, nil) // nobody remembers where the parts of other trees stood
	}
	err := r.err()
	if err != nil && r.hasOther() {
		if old, meaning := t.read(&reader{look: look, last: last, instead: err}, before); old.err() == nil {
			r, s, err = old, meaning, nil
		}
	}
	if err != nil {
		return model.State{}, err
	}
	t.last.note(r.values)
	if !look {
		t.memo.set(r.read)
	}
	return s, nil
}

// read has r read all of t but for what was read before and says the same. That is
// not for who looks.
func (t *Tree) read(r *reader, before map[digest]any) (*reader, model.State) {
	x := *t
	if t.root != nil && slices.ContainsFunc(append([]*yaml.Node{t.root}, t.parts...), expands) {
		x = *t.copy()
	} else {
		x.homes = maps.Clone(t.homes)
	}
	r.file, r.homes, r.files, r.named, r.faults = x.file, x.homes, x.files, slices.Clip(x.named), slices.Clip(x.faults)
	if !r.look {
		r.before, r.read = before, map[digest]any{}
	}
	if x.root == nil || !r.expanded(x.root) {
		return r, model.State{}
	}
	for _, part := range x.parts {
		if r.expanded(part) {
			r.parts = append(r.parts, part)
		}
	}
	return r, r.state(value{Node: x.root})
}

// expanded reports whether the variables of a file could be given their values.
func (r *reader) expanded(top *yaml.Node) bool {
	before := len(r.faults)
	r.expand(value{Node: top})
	return len(r.faults) == before
}

// copy returns a Tree that may be changed.
func (t *Tree) copy() *Tree {
	c := *t
	c.homes = make(map[*yaml.Node]string, len(t.homes))
	c.parts = make([]*yaml.Node, len(t.parts))
	c.root = c.copyNode(t.root, t.homes)
	for i, part := range t.parts {
		c.parts[i] = c.copyNode(part, t.homes)
	}
	return &c
}

func (t *Tree) copyNode(n *yaml.Node, homes map[*yaml.Node]string) *yaml.Node {
	if n == nil {
		return nil
	}
	c := *n
	if home, ok := homes[n]; ok {
		t.homes[&c] = home
	}
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, child := range n.Content {
		c.Content[i] = t.copyNode(child, homes)
	}
	return &c
}

// Export returns the whole configuration as one file of YAML, which reads as the
// same [model.State] where that file stands in place of the main one. Comments are
// left out. A Tree with faults has none.
func (t *Tree) Export() ([]byte, error) { return t.write(func(string, *yaml.Node) {}) }

// write returns the configuration as YAML after each has seen the values of all keys.
func (t *Tree) write(each func(key string, v *yaml.Node)) ([]byte, error) {
	if _, err := t.whole(); err != nil {
		return nil, err
	}
	x := t.copy()
	top := x.merged()
	plain(top, each)
	return encode(top)
}

// encode returns a node as YAML.
func encode(n *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

// whole returns t if its files have no faults as such.
func (t *Tree) whole() (*Tree, error) {
	r := &reader{files: t.files, faults: slices.Clip(t.faults)}
	return t, r.err()
}

// merged returns the top of a file without include that has what is included in
// itself. It takes the nodes of t.
func (t *Tree) merged() *yaml.Node {
	top := *t.root
	top.Content = nil
	groups := map[string]*yaml.Node{}
	add := func(key, v *yaml.Node) {
		have := groups[key.Value]
		if have == nil || have.Kind != v.Kind {
			groups[key.Value] = v
			top.Content = append(top.Content, key, v)
			return
		}
		have.Content = append(have.Content, v.Content...)
	}
	for i := 0; i+1 < len(t.root.Content); i += 2 {
		key, v := t.root.Content[i], t.root.Content[i+1]
		switch key.Value {
		case "services", "pools":
			add(key, v)
		case "include":
			for _, part := range t.parts {
				for k := 0; k+1 < len(part.Content); k += 2 {
					add(part.Content[k], part.Content[k+1])
				}
			}
		default:
			top.Content = append(top.Content, key, v)
		}
	}
	return &top
}

// plain strips what does not matter from n and all below it.
func plain(n *yaml.Node, each func(key string, v *yaml.Node)) {
	n.HeadComment, n.LineComment, n.FootComment, n.Anchor = "", "", "", ""
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			each(n.Content[i-1].Value, c)
		}
		plain(c, each)
	}
}

// text returns a scalar with the values of its variables, or as it is written if one of
// them is not known.
func (t *Tree) text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	if !strings.Contains(n.Value, "{") && !strings.HasPrefix(n.Value, "file:") {
		return n.Value
	}
	c, r := *n, &reader{file: t.file, last: t.last.values()}
	if r.expand(value{Node: &c}); r.err() != nil {
		return n.Value
	}
	return c.Value
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
