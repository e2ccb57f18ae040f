package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

// write makes files in a directory of their own and returns its path.
func write(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// load reads main.yaml of some files, without whose directory the error is.
func load(t *testing.T, files map[string]string) (model.State, string) {
	t.Helper()
	dir := write(t, files)
	s, err := Load(filepath.Join(dir, "main.yaml"))
	if err == nil {
		return s, ""
	}
	return s, strings.ReplaceAll(err.Error(), dir+"/", "")
}

const (
	oneService = "services: [{name: %, listen: '203.0.113.10:80', backends: [{address: '10.0.0.1:80'}]}]\n"
	onePool    = "pools: {%: {backends: [{address: '10.0.0.1:80'}]}}\n"
)

func named(text, name string) string { return strings.ReplaceAll(text, "%", name) }

func TestIncludedFilesAreAPart(t *testing.T) {
	s, err := load(t, map[string]string{
		"main.yaml": "include: [conf.d/*.yaml, more.yaml]\nservices: [{name: web, listen: '203.0.113.10:8080', forward: http, routes: [{match: /, pool: a}]}]\n",
		"more.yaml": strings.ReplaceAll(named(oneService, "more"), "80'", "81'"), "conf.d/2.yaml": named(oneService, "b"), "conf.d/1.yaml": named(onePool, "a"), "conf.d/not.yml": "nonsense",
	})
	if err != "" {
		t.Fatal(err)
	}
	var names []string
	for _, s := range s.Services {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"b", "more", "web"}, names); diff != "" || len(s.Pools) != 1 {
		t.Errorf("pools %v, services -want +got:\n%s", s.Pools, diff)
	}
}

func TestFaultsNameTheFileThatHasThem(t *testing.T) {
	for _, row := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"wrong value", map[string]string{"main.yaml": "include: a.yaml\n", "a.yaml": "services:\n  - {name: a, listen: x, backends: [{address: '10.0.0.1:80'}]}\n"},
			`a.yaml:2:23: services[0].listen: "x" is not an address and port: ` + likeAddrPort},
		{"key of the main file", map[string]string{"main.yaml": "include: a.yaml\n", "a.yaml": "xdp: off\n"}, "a.yaml:1:1: xdp: unknown key: use pools or services"},
		{"no YAML", map[string]string{"main.yaml": "include: a.yaml\n", "a.yaml": "services:\n- [\n"},
			"a.yaml:2:1: not YAML near \"- [\": did not find expected node content; check indentation, colons and quotes"},
		{"main before others", map[string]string{"main.yaml": "include: a.yaml\nflow-table: 1\n", "a.yaml": "services: 1\n"},
			"main.yaml:2:13: flow-table: \"1\" is not a number from 1024 to 16777216\na.yaml:1:11: services: \"1\" stands where a list must stand: write [] around it or - before each element"},
		{"a name twice", map[string]string{"main.yaml": "include: a.yaml\n" + strings.ReplaceAll(named(oneService, "a"), ":80'", ":81'"), "a.yaml": named(oneService, "a")},
			`main.yaml:2:19: services[0].name: "a" is the name of the service in line 1 of a.yaml already: use another`},
		{"an address twice", map[string]string{"main.yaml": named(oneService, "b") + "include: a.yaml\n", "a.yaml": named(oneService, "a")},
			`a.yaml:1:30: services[0].listen: 203.0.113.10:80/tcp is taken by service "b" in line 1 of main.yaml already: use another address or port, or make one service of the two`},
		{"a pool twice", map[string]string{"main.yaml": "include: [a.yaml, b.yaml]\n", "a.yaml": named(onePool, "x"), "b.yaml": named(onePool, "x")},
			"b.yaml:1:9: pools.x: the pool stands in line 1 of a.yaml already: use another name"},
		{"no such pool", map[string]string{"main.yaml": "include: a.yaml\n", "a.yaml": "services: [{name: a, listen: '203.0.113.10:80', forward: http, routes: [{match: /, pool: x}]}]\n"},
			`a.yaml:1:90: services[0].routes[0].pool: "x" is not a pool: write it under pools, at the top of the file`},
		{"no such file", map[string]string{"main.yaml": "include: a.yaml\n"}, `main.yaml:1:10: include: "a.yaml" does not exist: correct the name, or remove it`},
		{"a directory", map[string]string{"main.yaml": "include: a\n", "a/b": ""}, "main.yaml:1:10: include: cannot be read: open a: it is no regular file: name one"},
		{"no pattern", map[string]string{"main.yaml": "include: ['[']\n"}, `main.yaml:1:11: include[0]: "[" is not a pattern: write it like conf.d/*.yaml`},
		{"an include of an include", map[string]string{"main.yaml": "include: a.yaml\n", "a.yaml": "include: b.yaml\n"}, "a.yaml:1:1: include: unknown key: use pools or services"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := load(t, row.files); err != row.want {
				t.Errorf("error %s\nwant  %s", err, row.want)
			}
		})
	}
}

func TestNoFileMustBeThereForAPattern(t *testing.T) {
	if _, err := load(t, map[string]string{"main.yaml": "include: '*.yaml'\n"}); err != "" {
		t.Error(err)
	}
}

func TestDefaultsAreForWhoHasThem(t *testing.T) {
	s, fault := load(t, map[string]string{
		"main.yaml": `
defaults:
  balance: random
  drain: 7s
  health: {type: http, path: /ok}
  timeouts: {idle: 9s}
  retry: {attempts: 7}
include: pools.yaml
services:
  - {name: packets, listen: "203.0.113.10:80", backends: [{address: "10.0.0.1:80"}]}
  - {name: own, listen: "203.0.113.10:81", balance: p2c, backends: [{address: "10.0.0.1:80"}], health: {type: none}, drain: 8s}
  - {name: datagrams, listen: "203.0.113.10:82", protocol: udp, backends: [{address: "10.0.0.1:80"}]}
  - {name: web, listen: "203.0.113.10:83", forward: http, backends: [{address: "10.0.0.1:80"}]}
  - {name: routed, listen: "203.0.113.10:84", forward: http, timeouts: {connect: 1s}, routes: [{match: /, pool: images}]}
`,
		"pools.yaml": "pools: {images: {backends: [{address: '10.0.0.1:80'}], retry: {attempts: 1}}}\n",
	})
	if fault != "" {
		t.Fatal(fault)
	}
	type has struct {
		Name    string
		Balance model.Method
		Health  model.CheckType
		Drain   time.Duration
	}
	var got []has
	for _, g := range s.Groups() {
		got = append(got, has{g.Name, g.Balance.Method, g.Health.Type, g.Drain})
	}
	want := []has{
		{"packets", model.Random, model.CheckHTTP, 7 * time.Second}, {"own", model.P2C, model.CheckNone, 8 * time.Second},
		{"datagrams", model.Random, model.CheckNone, 7 * time.Second},
		{"web", model.RoundRobin, "", 0}, {"routed", model.RoundRobin, "", 0}, // their pools have what they say
		{"images", model.Random, model.CheckHTTP, 0}, {"service/web", model.Random, model.CheckHTTP, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if a, b := s.Pools[0].Retry.Attempts, s.Pools[1].Retry.Attempts; a != 1 || b != 7 {
		t.Errorf("attempts %d and %d", a, b)
	}
	if a, b := s.Services[3].HTTP.Routes[0].Timeouts, s.Services[4].HTTP.Routes[0].Timeouts; a.Idle != 9*time.Second || b.Idle != defaultTimeouts.Idle || b.Connect != time.Second {
		t.Errorf("timeouts %v and %v", a, b)
	}
}

func TestFaultsOfDefaults(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"nobody uses them", "defaults: {drain: x}\nservices: []\n", `main.yaml:1:19: defaults.drain: "x" is not a time: write it like 500ms, 2s or 5m`},
		{"told once", "defaults: {drain: x}\n" + named(oneService, "a"), `main.yaml:1:19: defaults.drain: "x" is not a time: write it like 500ms, 2s or 5m`},
		{"after those who use them", named(oneService, "a") + "defaults: {drain: x}\n", `main.yaml:2:19: defaults.drain: "x" is not a time: write it like 500ms, 2s or 5m`},
		{"told once, by a user", "defaults: {health: {type: x}}\n" + strings.ReplaceAll(named(oneService, "a"), "}]}]", "}]}, {name: b, listen: '203.0.113.10:81', backends: [{address: '10.0.0.1:80'}]}]"),
			`main.yaml:1:27: services[0].health.type: "x" is unknown: use none, tcp, http, https, udp, dns, grpc or exec`},
		{"unknown, told once", "defaults: {nope: 1}\n" + named(oneService, "a"), "main.yaml:1:12: defaults.nope: unknown key: use "},
		{"no default", "defaults: {name: a}\nservices: []\n", "main.yaml:1:12: defaults.name: unknown key: use "},
		{"not keys", "defaults: x\nservices: []\n", `main.yaml:1:11: defaults: "x" stands where keys with values must stand, such as name: web`},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := load(t, map[string]string{"main.yaml": row.text})
			if !strings.HasPrefix(err, row.want) || strings.Contains(err, "\n") {
				t.Errorf("error %s\nwant  %s", err, row.want)
			}
		})
	}
}
