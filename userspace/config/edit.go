package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"fairlead/userspace/control"
)

// editHome is the home of what an edit says.
const editHome = "change"

// apply carries out an edit on a Tree of one's own that is one file. What the edit says takes the
// place of what is there, so that one may be carried out on another file than it was
// made for. The error wraps [control.ErrNotFound] if that lacks what it is about.
func (t *Tree) apply(e *control.Edit) error {
	switch e.Op {
	case control.OpPutService:
		return t.putService(e)
	case control.OpRemoveService:
		return t.removeService(e.Service)
	case control.OpPutPool:
		return t.putPool(e)
	case control.OpRemovePool:
		return t.removePool(e.Pool)
	case control.OpPutRoute, control.OpRemoveRoute:
		return t.editRoutes(e)
	}
	g, err := t.group(e)
	if err != nil {
		return err
	}
	if e.Op == control.OpSetBackends {
		return t.setBackends(g, e.Backends)
	}
	if e.Op == control.OpAddBackend {
		if _, fit := t.find(g, e.Backend); fit == 0 {
			return t.putBackend(g, len(g.list.Content), e)
		}
	}
	at, err := t.backend(g, e.Backend)
	switch {
	case err != nil:
		return err
	case e.Op == control.OpAddBackend:
		return t.putBackend(g, at, e)
	case e.Op == control.OpRemoveBackend:
		g.list.Content = slices.Delete(g.list.Content, at, at+1)
	case e.Op == control.OpSetWeight && e.Weight != nil:
		t.setKey(g.list.Content[at], "weight", number(*e.Weight))
	case e.Op == control.OpDrain:
		t.setKey(g.list.Content[at], "weight", number(0))
	}
	return nil
}

// word returns a node of text.
func word(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

func number(n int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(n)}
}

// setKey gives a key of a mapping a value.
func (t *Tree) setKey(n *yaml.Node, key string, v *yaml.Node) {
	t.settle(v)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content[i+1] = v
			return
		}
	}
	k := word(key)
	t.settle(k)
	n.Content = append(n.Content, k, v)
}

// removeKey reports whether a mapping, nil for none, had a key that it removes.
func removeKey(n *yaml.Node, key string) bool {
	if n == nil {
		return false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = slices.Delete(n.Content, i, i+2)
			return true
		}
	}
	return false
}

// settle makes n and all below it what an edit says.
func (t *Tree) settle(n *yaml.Node) {
	t.homes[n] = editHome
	for _, c := range n.Content {
		t.settle(c)
	}
}

// spec returns the mapping that an edit has, for what is at path.
func (t *Tree) spec(e *control.Edit, path string) (*yaml.Node, error) {
	if strings.TrimSpace(e.Spec) == "" {
		return nil, Fault{File: editHome, Field: path, Text: "says nothing: give its keys, as in the configuration"}
	}
	n, fault := parseYAML(editHome, []byte(e.Spec))
	if fault != nil {
		return nil, *fault
	}
	r := &reader{file: editHome}
	r.refuse(value{n, path})
	if n.Kind != yaml.MappingNode {
		r.fault(value{n, path}, "%s where keys with values must stand", kind(n))
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	t.settle(n)
	return n, nil
}

// section returns the value of a key of a merged file, which it gets if it lacks it.
func (t *Tree) section(key string, k yaml.Kind) *yaml.Node {
	if n := lookup(t.root, key); n != nil && n.Kind == k {
		return n
	}
	n := &yaml.Node{Kind: k}
	t.setKey(t.root, key, n)
	return n
}

// service returns the list of services, and the index of one; -1 if it is not there.
func (t *Tree) service(name string) (list *yaml.Node, at int) {
	list = lookup(t.root, "services")
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil, -1
	}
	return list, slices.IndexFunc(list.Content, func(n *yaml.Node) bool { return t.text(lookup(n, "name")) == name })
}

// pool returns a pool, nil if it is not there.
func (t *Tree) pool(name string) *yaml.Node { return lookup(lookup(t.root, "pools"), name) }

func noService(name string) error {
	return fmt.Errorf("service %s: %w", quote(name), control.ErrNotFound)
}
func noPool(name string) error { return fmt.Errorf("pool %s: %w", quote(name), control.ErrNotFound) }

func (t *Tree) putService(e *control.Edit) error {
	list, at := t.service(e.Service)
	if at < 0 {
		list = t.section("services", yaml.SequenceNode)
		at = len(list.Content)
		list.Content = append(list.Content, nil)
	}
	n, err := t.spec(e, fmt.Sprintf("services[%d]", at))
	if err != nil {
		return err
	}
	name := word("name")
	value := word(e.Service)
	if have := lookup(n, "name"); have == nil {
		t.settle(name)
		t.settle(value)
		n.Content = append([]*yaml.Node{name, value}, n.Content...)
	} else if have.Value != e.Service {
		return Fault{File: editHome, Field: fmt.Sprintf("services[%d].name", at), Text: fmt.Sprintf("%s is not the service %s that is to be put: remove the key", quote(have.Value), quote(e.Service))}
	}
	list.Content[at] = n
	return nil
}

func (t *Tree) removeService(name string) error {
	list, at := t.service(name)
	if at < 0 {
		return noService(name)
	}
	list.Content = slices.Delete(list.Content, at, at+1)
	return nil
}

func (t *Tree) putPool(e *control.Edit) error {
	n, err := t.spec(e, value{path: "pools"}.at(e.Pool, nil).path)
	if err != nil {
		return err
	}
	t.setKey(t.section("pools", yaml.MappingNode), e.Pool, n)
	return nil
}

func (t *Tree) removePool(name string) error {
	if removeKey(lookup(t.root, "pools"), name) {
		return nil
	}
	if services, at := t.service(name); at >= 0 && lookup(services.Content[at], "backends") != nil {
		return fmt.Errorf("%w: service %s lists these backends itself", noPool(name), quote(name))
	}
	return noPool(name)
}

// needs are the keys of edits that must say something.
var needs = map[control.Op][]string{
	control.OpPutService: {"service"}, control.OpRemoveService: {"service"}, control.OpPutPool: {"pool"}, control.OpRemovePool: {"pool"},
	control.OpPutRoute: {"service", "match"}, control.OpRemoveRoute: {"service", "match"},
	control.OpAddBackend: {"pool", "backend"}, control.OpRemoveBackend: {"pool", "backend"}, control.OpSetWeight: {"pool", "backend", "weight"},
	control.OpDrain: {"pool", "backend"}, control.OpUndrain: {"pool", "backend"}, control.OpSetBackends: {"pool", "backends"},
}

// checkEdit finds what an edit does not say.
func checkEdit(e *control.Edit) error {
	keys, ok := needs[e.Op]
	if !ok {
		return Fault{File: editHome, Field: "op", Text: quote(string(e.Op)) + " is unknown"}
	}
	for _, key := range keys {
		var has bool
		switch key {
		case "service":
			has = e.Service != ""
		case "pool":
			has = e.Pool != "" || e.Service != ""
		case "match":
			has = e.Match != ""
		case "backend":
			has = e.Backend != ""
		case "backends":
			has = len(e.Backends) > 0
		case "weight":
			has = e.Weight != nil
		}
		if !has {
			return Fault{File: editHome, Field: key, Text: fmt.Sprintf("is missing: %s needs it", e.Op)}
		}
	}
	return nil
}
