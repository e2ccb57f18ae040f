// Package config reads the configuration file: YAML in, [model.State] out.
//
// It is strict. Whatever the file says that this version does not do is a
// fault, every fault of a file is reported at once, and each says where it is
// and what to do. It looks at nothing but the file, and at the certificates that
// the file names: whether an interface or an address exists is for others to find
// out.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"fairlead/userspace/model"
)

// ErrInvalid is wrapped by every error of this package: the configuration, or
// the path to it, is wrong, and running again without a change is no use.
// Programs exit with status 2 on it.
var ErrInvalid = errors.New("invalid configuration")

// A Fault is one mistake in a configuration file. It wraps [ErrInvalid].
type Fault struct {
	File         string
	Line, Column int // from 1; the column counts characters
	// Field is the path of keys to the mistake, such as
	// "services[0].listen"; empty if the file as a whole is wrong.
	Field string
	// Text says in one line what is wrong and what to do.
	Text string
}

// Error returns "file:line:column: field: text" in one line.
func (f Fault) Error() string {
	if f.Field == "" {
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

// Load reads the file at path, and the certificates that it names. Its errors are
// those of [Parse], and the cause if a file cannot be read; all wrap [ErrInvalid].
func Load(path string) (model.State, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return model.State{}, loadError{err}
	}
	return parse(path, data, true)
}

// Parse reads a configuration; name stands for its file in errors. Every
// default is filled in. The error joins one [Fault] for each mistake, in the
// order of the file. The files that the configuration names are not looked at.
func Parse(name string, data []byte) (model.State, error) { return parse(name, data, false) }

func parse(name string, data []byte, look bool) (model.State, error) {
	root, fault := parseYAML(name, data)
	if fault != nil {
		return model.State{}, *fault
	}
	r := &reader{file: name, look: look}
	v := value{Node: root}
	r.refuse(v)
	var s model.State
	if len(r.faults) == 0 {
		s = r.state(v)
	}
	if len(r.faults) == 0 {
		return s, nil
	}
	slices.SortStableFunc(r.faults, func(a, b Fault) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	errs := make([]error, len(r.faults))
	for i, f := range r.faults {
		errs[i] = f
	}
	return model.State{}, errors.Join(errs...)
}
