package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"fairlead/userspace/control"
)

const reaching = `services:
  - {name: web, listen: '203.0.113.10:80', forward: http, routes: [{match: '${PREFIX}/', pool: main}, {match: /, pool: main, request-headers: {set: {Authorization: '${TOKEN}'}}}]}
pools:
  main: {backends: [{address: '${HOST}:80'}], sticky: {cookie: c, key: abc}, health: {type: exec, command: [/bin/check, -q]}}
`

func TestEditsReachNothingNewOfTheHost(t *testing.T) {
	known := NewTree("f", []byte(reaching))
	const refused = " names what the configuration does not have there: over TCP nothing new of the host may be named, no file, program, variable or user; make this change on the host"
	apply := func(spec string) control.Edit { return control.Edit{Op: control.OpApply, Spec: spec} }
	for _, row := range []struct {
		name string
		edit control.Edit
		want string // how the fault begins; "" for none
	}{
		{"the same", apply(reaching), ""},
		{"nothing of the host", apply(strings.NewReplacer("${HOST}", "10.0.0.1", "key: abc", "key: other", "match: /", "match: '/{x}/${1}'").Replace(reaching)), ""},
		{"a backend by a name that is there", edit("set-weight main ${HOST}:80 3"), ""},
		{"a pool by such a name", apply(strings.Replace(reaching, "pools:", "pools:\n  users: {backends: [{address: '10.0.0.2:80'}]}", 1)), ""},
		{"a part for one", edit("put-route web /x -> main {split: {main: 3, vault: 1}}"), ""},
		{"a condition by such a name", edit("put-route web /x -> main {query: {key: abc}, headers: {file: abc}, cookies: {groups: abc}}"), ""},
		{"a zone by such a name", apply("client-zones: {storage: [10.0.0.0/8]}\n" + reaching), ""},
		{"a program of a pool by such a name", edit("put-pool users {backends: [{address: '10.0.0.1:80'}], health: {type: exec, command: [/bin/other]}}"), `change: command: the value`},
		{"a program of one that is applied", apply(strings.Replace(reaching, "pools:", "pools:\n  users: {backends: [{address: '10.0.0.2:80'}], health: {type: exec, command: [/bin/other]}}", 1)), `change: command: the value`},
		{"an included file", apply("include: /etc/shadow\nservices: []\n"), `change: include: "/etc/shadow"`},
		{"several", apply("include: [/etc/shadow]\nservices: []\n"), `change: include: the value`},
		{"in JSON", apply(`{"incl\u0075de": "/etc/shadow", "services": []}`), `change: include: "/etc/shadow"`},
		{"a file's contents", edit("put-pool new {backends: [{address: '10.0.0.1:80'}], health: {type: http, headers: {X: 'file:/etc/shadow'}}}"), `change: headers.X: "file:/etc/shadow"`},
		{"a variable", edit("put-pool new {backends: [{address: '10.0.0.1:80'}], health: {type: http, host: 'a${SECRET}b'}}"), `change: host: "a${SECRET}b"`},
		{"a variable elsewhere", edit("put-pool new {backends: [{address: '10.0.0.1:80'}], health: {type: http, headers: {X: '${TOKEN}'}}}"), `change: headers.X: "${TOKEN}"`},
		{"a backend", edit("add-backend main ${TOKEN}:80"), `change: address: "${TOKEN}:80"`},
		{"a key of cookies", edit("put-pool new {backends: [{address: '10.0.0.1:80'}], sticky: {by: cookie, key: 'file:/etc/shadow'}}"), `change: sticky.key: "file:/etc/shadow"`},
		{"a key of cookies by a variable", apply(strings.Replace(reaching, "key: abc", "key: '${TOKEN}'", 1)), `change: sticky.key: "${TOKEN}"`},
		{"backends", control.Edit{Op: control.OpSetBackends, Pool: "main", Backends: []string{"10.0.0.1:80", "file:/etc/shadow"}}, `change: address: "file:/etc/shadow"`},
		{"users", apply("admin: {users: [mallory]}\nservices: []\n"), `change: users: the value`},
		{"a match", edit("put-route web /${TOKEN} -> main"), `change: match: "/${TOKEN}"`},
		{"what names a route that is there", edit("put-route web ${PREFIX}/ -> main"), ""},
		{"another program", apply(strings.Replace(reaching, "-q", "-v", 1)), `change: command: the value`},
		{"a page", edit("put-route web /x -> main {error-pages: [{status: 503, file: /etc/shadow}]}"), `change: file: "/etc/shadow"`},
		{"an alias", edit("put-pool new {backends: &a [{address: '10.0.0.1:80'}], x: *a}"), `change: x: `},
		{"no YAML", edit("put-pool new {"), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := CheckReach([]control.Edit{row.edit}, known)
			switch {
			case row.want == "" && err != nil:
				t.Error(err)
			case row.want != "" && (err == nil || !strings.HasPrefix(err.Error(), row.want) || !strings.HasSuffix(err.Error(), refused)):
				t.Errorf("error %v\nwant  %s…", err, row.want)
			}
		})
	}
}

// TestWhateverIsReadIsFoundBefore: each file that a configuration makes an agent look at
// is one that the search without reading finds, whatever key names it.
func TestWhateverIsReadIsFoundBefore(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	seen := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tree := NewTreeBeside(file, file, data)
		if tree.root == nil {
			continue
		}
		var found []string
		reaches("", tree.root, func(_ string, n *yaml.Node) { found = append(found, scalars(n)...) })
		for _, part := range tree.parts {
			reaches("", part, func(_ string, n *yaml.Node) { found = append(found, scalars(n)...) })
		}
		r, _ := tree.read(&reader{}, nil)
		for _, name := range r.named {
			seen++
			if !slices.ContainsFunc(found, func(text string) bool {
				text = strings.TrimPrefix(text, "file:")
				ok, _ := filepath.Match(text, name)
				beside, _ := filepath.Match(filepath.Join(filepath.Dir(file), text), name)
				return ok || beside || strings.Contains(text, "${")
			}) {
				t.Errorf("%s names %s, which is not found: %q", file, name, found)
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d files are named: that shows nothing", seen)
	}
}

func scalars(n *yaml.Node) (all []string) {
	if n.Kind == yaml.ScalarNode {
		return []string{n.Value}
	}
	for _, c := range n.Content {
		all = append(all, scalars(c)...)
	}
	return all
}
