package config

import (
	"fmt"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"fairlead/userspace/control"
)

// hostKeys are those whose values are files to read or write, programs to run, where
// secrets are fetched, or users of the host who may do more, wherever they stand.
var hostKeys = []string{
	"include", "file", "users", "groups", "cert", "key", "ca", "client-ca", "token-file", "storage", "command", "vault",
	"logging-file", "pin-dir", "run-dir", "state-dir",
}

// nameKeys are those in whose values names stand for keys, of pools, headers and the like.
var nameKeys = []string{"pools", "split", "headers", "query", "cookies", "set", "add", "client-zones"}

// namesHost fits a value that stands for a file's contents, or for a variable.
var namesHost = regexp.MustCompile(`^file:|\$\{[A-Za-z_]`)

// reaches calls f for what a node, the value of a key, names of the host. It goes by
// what is written: nothing is read for it.
func reaches(key string, n *yaml.Node, f func(key string, n *yaml.Node)) {
	switch {
	case n == nil:
	case slices.Contains(hostKeys, key), n.Kind == yaml.AliasNode, n.Kind == yaml.ScalarNode && namesHost.MatchString(n.Value):
		f(key, n)
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			name := n.Content[i].Value
			if slices.Contains(nameKeys, key) || key == "sticky" && name == "key" { // which is a text
				name = key + "." + name // and none of hostKeys
			}
			reaches(name, n.Content[i+1], f)
		}
	default:
		for _, c := range n.Content {
			reaches(key, c, f)
		}
	}
}

func reached(key string, n *yaml.Node) string { return key + "\x00" + string(canonical(n)) }

// CheckReach refuses edits by which an agent would read, write or run what it names
// nowhere yet: what files hold, variables of its environment, programs. What some
// configurations have under the same key is known. Nothing that edits name is read.
func CheckReach(edits []control.Edit, known ...*Tree) error {
	has := map[string]bool{}
	for _, t := range known {
		for _, top := range append([]*yaml.Node{t.root}, t.parts...) {
			reaches("", top, func(key string, n *yaml.Node) { has[reached(key, n)] = true })
		}
	}
	var found *Fault
	refuse := func(key string, n *yaml.Node) {
		if found == nil && !has[reached(key, n)] {
			found = &Fault{File: editHome, Field: key, Text: fmt.Sprintf("%s names what the configuration does not have there: over TCP nothing new of the host may be named, no file, program, variable or user; make this change on the host", shortly(n))}
		}
	}
	for i := range edits {
		e := &edits[i]
		if n, fault := parseYAML(editHome, []byte(e.Spec)); fault == nil { // else it is refused as such
			reaches("", n, refuse)
		}
		for _, text := range append([]string{e.Backend}, e.Backends...) {
			if n := word(text); !has[reached("url", n)] {
				reaches("address", n, refuse)
			}
		}
		reaches("name", word(e.Service), refuse)
		reaches("pool", word(e.Pool), refuse)
		reaches("match", word(e.Match), refuse)
	}
	if found != nil {
		return *found
	}
	return nil
}

// shortly returns a value for a message.
func shortly(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return quote(n.Value)
	}
	return "the value"
}
