package config

import (
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead/userspace/model"
)

var addresses = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

// exported checks that the export of a good tree means the same, and returns it.
func exported(t *testing.T, tree *Tree) string {
	t.Helper()
	want, err := tree.State(false)
	if err != nil {
		t.Fatal(err)
	}
	text, err := tree.Export()
	if err != nil {
		t.Fatal(err)
	}
	again := NewTreeBeside(tree.file, "export", text)
	got, err := again.State(false)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if diff := cmp.Diff(want, got, addresses); diff != "" {
		t.Errorf("the export means something else: -want +got:\n%s", diff)
	}
	if twice, err := again.Export(); err != nil || string(twice) != string(text) {
		t.Errorf("the export of the export is\n%s, %v, want\n%s", twice, err, text)
	}
	return string(text)
}

func TestAnExportMeansTheSame(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range files {
		if strings.HasSuffix(path, ".bad.yaml") {
			continue
		}
		n++
		tree, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		exported(t, tree)
	}
	if n < 5 {
		t.Errorf("%d files", n)
	}
	quick := Quick{Port: Given{"80", "--port"}, Backends: given("-b", "http://127.0.0.1:2702", "https://10.0.0.2/x"), Connections: Given{"7", "-n"}, IPv6: true}
	exported(t, quick.Tree())
}

func TestAnExportHasWhatIsIncluded(t *testing.T) {
	dir := write(t, map[string]string{
		"main.yaml": "# a comment\ninclude: [\"${NAME}.yaml\", more.yaml]\nservices: [{name: web, listen: '203.0.113.10:8080', forward: http, routes: [{match: /, pool: a}]}] # another\nxdp: native\n",
		"one.yaml":  named(onePool, "a"), "more.yaml": named(oneService, "more"),
	})
	t.Setenv("NAME", "one")
	tree, err := Read(filepath.Join(dir, "main.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := exported(t, tree)
	want := `pools: {a: {backends: [{address: '10.0.0.1:80'}]}}
services: [{name: more, listen: '203.0.113.10:80', backends: [{address: '10.0.0.1:80'}]}, {name: web, listen: '203.0.113.10:8080', forward: http, routes: [{match: /, pool: a}]}]
xdp: native
`
	if diff := cmp.Diff(want, text); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAnExportNamesSecrets(t *testing.T) {
	t.Setenv("PART", "5")
	dir := write(t, map[string]string{
		"main.yaml": "services: [{name: web, listen: '203.0.113.10:80', backends: [{address: \"10.0.0.${PART}:80\"}], health: {type: http, path: 'file:path', headers: {X-Price: '$${PART}'}}}]\n",
		"path":      "/sesame\n",
	})
	tree, err := Read(filepath.Join(dir, "main.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := exported(t, tree)
	if strings.Contains(text, "sesame") || !regexp.MustCompile(`\$\{PART}.*file:path.*\$\$\{PART}`).MatchString(text) {
		t.Errorf("export %s", text)
	}
	s, err := tree.State(false)
	if err != nil || s.Services[0].Backends[0].Address.String() != "10.0.0.5:80" {
		t.Errorf("%+v, %v", s.Services, err)
	}
}

func TestATreeDoesNotChange(t *testing.T) {
	t.Setenv("PART", "5")
	tree := NewTree("f", []byte("services: [{name: web, listen: '203.0.113.10:80', backends: [{address: \"10.0.0.${PART}:80\"}]}]\n"))
	before := exported(t, tree)
	if _, dormant := tree.With(edits("remove-backend web 10.0.0.5:80", "add-backend web 10.0.0.6:80")); len(dormant) != 2 { // their pool is a service
		t.Errorf("dormant %v", dormant)
	}
	var s model.State
	for range 2 {
		var err error
		if s, err = tree.State(false); err != nil {
			t.Fatal(err)
		}
	}
	if after := exported(t, tree); after != before || len(s.Services) != 1 {
		t.Errorf("became\n%s", after)
	}
}
