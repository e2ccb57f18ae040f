// Package config reads the configuration file: YAML in, [model.State] out.
//
// It is strict. Whatever the file says that this version does not do is a
// fault, every fault of a file is reported at once, and each says where it is
// and what to do. It looks at nothing but the file, what that includes, the
// variables that it names, its certificates, and the programs that it has run:
// whether an interface or an address exists is for others to find out.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"fairlead/userspace/model"
)

// ErrInvalid is wrapped by every error of this package: the configuration, or
// the path to it, is wrong, and running again without a change is no use.
// Programs exit with status 2 on it.
var ErrInvalid = errors.New("invalid configuration")

// A Fault is one mistake in a configuration file. It wraps [ErrInvalid].
type Fault struct {
	// File is the file, or the flag, variable or edit, which has no line.
	File         string
	Line, Column int // from 1; the column counts characters
	// Field is the path of keys to the mistake, such as
	// "services[0].listen"; empty if the file as a whole is wrong.
	Field string
	// Text says in one line what is wrong and what to do.
	Text string
}

// Error returns "file:line:column: field: text", "flag: text" or
// "change: field: text", in one line.
func (f Fault) Error() string {
	switch {
	case f.Line == 0 && f.Field == "":
		return f.File + ": " + f.Text
	case f.Line == 0:
		return f.File + ": " + f.Field + ": " + f.Text
	case f.Field == "":
		return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", f.File, f.Line, f.Column, f.Field, f.Text)
}

// Unwrap returns [ErrInvalid].
func (f Fault) Unwrap() error { return ErrInvalid }

// A loadError is a file that cannot be read.
type loadError struct{ err error }

func (e loadError) Error() string   { return "read configuration: " + e.err.Error() }
func (e loadError) Unwrap() []error { return []error{ErrInvalid, e.err} }

// Load reads the file at path, and looks at certificates and programs that it names. Its errors are
// those of [Parse], and the cause if a file cannot be read; all wrap [ErrInvalid].
func Load(path string) (model.State, error) {
	t, err := Read(path)
	if err != nil {
		return model.State{}, err
	}
	return t.State(true)
}

// Parse reads a configuration; name stands for its file in errors, and files
// that it includes are looked for beside it. Every default is filled in. The
// error joins one [Fault] for each mistake, in the order of the files.
// Certificates and programs that the configuration names are not looked at.
func Parse(name string, data []byte) (model.State, error) { return NewTree(name, data).State(false) }

// Files returns the main file and the paths that t names to be read, or that files
// which it includes name, whether or not they are there. Some may be patterns, as a
// shell has them.
func (t *Tree) Files() []string {
	r, _ := t.read(&reader{}, nil)
	return append([]string{t.file}, r.named...)
}

// open returns the top of a file, nil if it is at fault.
func (r *reader) open(name string, data []byte) *yaml.Node {
	r.files = append(r.files, name)
	root, fault := parseYAML(name, data)
	if fault != nil {
		r.faults = append(r.faults, *fault)
		return nil
	}
	if name != r.file {
		r.settle(root, name)
	}
	before := len(r.faults)
	if r.refuse(value{Node: root}); len(r.faults) > before {
		return nil
	}
	return root
}

// settle notes where a node and all below it come from.
func (r *reader) settle(n *yaml.Node, home string) {
	r.homes[n] = home
	for _, c := range n.Content {
		r.settle(c, home)
	}
}

// err returns the faults, each mistake once: what is wrong with a default is so
// wherever it is used.
func (r *reader) err() error {
	slices.SortStableFunc(r.faults, func(a, b Fault) int {
		return cmp.Or(slices.Index(r.files, a.File)-slices.Index(r.files, b.File), a.Line-b.Line, a.Column-b.Column)
	})
	var errs []error
	seen := map[Fault]bool{}
	for _, f := range r.faults {
		mistake := f
		if f.Line > 0 {
			mistake.Field = ""
		}
		if !seen[mistake] {
			seen[mistake] = true
			errs = append(errs, f)
		}
	}
	return errors.Join(errs...)
}
