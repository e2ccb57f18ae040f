package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/control"
)

// edit reads "op owner rest...", in which the owner is a service of operations on
// those and on routes, and a pool of all others.
func edit(text string) control.Edit {
	words := strings.SplitN(text, " ", 3)
	e, rest := control.Edit{Op: control.Op(words[0])}, ""
	if len(words) > 2 {
		rest = words[2]
	}
	switch e.Op {
	case control.OpPutService, control.OpRemoveService:
		e.Service, e.Spec = words[1], rest
	case control.OpPutPool, control.OpRemovePool:
		e.Pool, e.Spec = words[1], rest
	case control.OpPutRoute, control.OpRemoveRoute:
		e.Service = words[1]
		e.Match, rest, _ = strings.Cut(rest, " -> ")
		e.Pool, e.Spec, _ = strings.Cut(rest, " ")
	case control.OpSetBackends:
		e.Pool, e.Backends = words[1], strings.Fields(rest)
	default:
		e.Pool = words[1]
		e.Backend, rest, _ = strings.Cut(rest, " ")
		if n, err := strconv.Atoi(rest); err == nil {
			e.Weight = &n
		} else {
			e.Spec = rest
		}
	}
	return e
}

func edits(texts ...string) (all []control.Edit) {
	for _, text := range texts {
		all = append(all, edit(text))
	}
	return all
}

// edited is what the tests edit.
const edited = `
xdp: off
services:
  - {name: web, listen: "203.0.113.10:80", forward: http, routes: [{match: /, pool: main}, {match: /images/, pool: images}]}
  - {name: db, listen: "203.0.113.10:5432", forward: proxy, backends: [{address: "10.0.1.1:5432", weight: 3}, {address: "10.0.1.2:5432"}]}
pools:
  main: {backends: [{url: "http://10.0.0.1:8080/app", weight: 2}, {url: "http://10.0.0.2:8080/app"}]}
  images: {backends: [{address: "10.0.0.3:8080"}]}
`

// backendsIn returns "name=weight ..." of a group of a state.
func backendsIn(t *testing.T, tree *Tree, name string) string {
	t.Helper()
	s, err := tree.State(false)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, g := range s.Groups() {
		if g.Name == name {
			for _, b := range g.Backends {
				all = append(all, fmt.Sprintf("%s%s=%d", b.Name.Host, b.Address.Addr(), b.Weight))
			}
		}
	}
	return strings.NewReplacer("10.0.0.", ".", "10.0.1.", ".").Replace(strings.Join(all, " "))
}

func TestEditsOfBackends(t *testing.T) {
	for _, row := range []struct {
		name, group string
		edits       []string
		want        string
		kept        int
	}{
		{"one comes", "images", []string{"add-backend images 10.0.0.4:8080"}, ".3=1 .4=1", 1},
		{"one comes with a weight", "images", []string{"add-backend images 10.0.0.4:8080 7"}, ".3=1 .4=7", 1},
		{"one comes with more", "images", []string{"add-backend images http://10.0.0.4:8080/x {weight: 9, zone: a}"}, ".3=1 .4=9", 1},
		{"one goes", "main", []string{"remove-backend main http://10.0.0.1:8080/app"}, ".2=1", 1},
		{"one goes by its address", "main", []string{"remove-backend main 10.0.0.1:8080"}, ".2=1", 1},
		{"one of a service goes", "db", []string{"remove-backend db 10.0.1.1:5432"}, ".2=1", 1},
		{"who came goes without a trace", "images", []string{"add-backend images 10.0.0.4:8080", "set-weight images 10.0.0.4:8080 3", "remove-backend images 10.0.0.4:8080"}, ".3=1", 0},
		{"who went comes back", "main", []string{"remove-backend main 10.0.0.1:8080", "add-backend main http://10.0.0.1:8080/app"}, ".1=1 .2=1", 1},
		{"a weight", "db", []string{"set-weight db 10.0.1.2:5432 5"}, ".1=3 .2=5", 1},
		{"a later weight", "db", []string{"set-weight db 10.0.1.2:5432 5", "set-weight db 10.0.1.2:5432 6"}, ".1=3 .2=6", 1},
		{"a drain", "db", []string{"drain db 10.0.1.1:5432"}, ".1=0 .2=1", 1},
		{"a drain wins over a weight", "db", []string{"drain db 10.0.1.1:5432", "set-weight db 10.0.1.1:5432 9"}, ".1=0 .2=1", 2},
		{"a drain ends", "db", []string{"set-weight db 10.0.1.1:5432 9", "drain db 10.0.1.1:5432", "undrain db 10.0.1.1:5432"}, ".1=9 .2=1", 1},
		{"a set", "db", []string{"set-backends db 10.0.1.3:5432 10.0.1.1:5432"}, ".3=1 .1=3", 1},
		{"a later set", "db", []string{"set-weight db 10.0.1.1:5432 9", "set-weight db 10.0.1.2:5432 9", "set-backends db 10.0.1.3:5432 10.0.1.2:5432", "set-backends db 10.0.1.2:5432 10.0.1.4:5432"}, ".2=9 .4=1", 2},
		{"a set again with who has got a weight", "db", []string{"set-backends db 10.0.1.3:5432 10.0.1.4:5432", "set-weight db 10.0.1.4:5432 9", "set-backends db 10.0.1.4:5432 10.0.1.5:5432"}, ".4=9 .5=1", 2},
		{"a set and one more", "db", []string{"set-backends db 10.0.1.3:5432", "add-backend db 10.0.1.4:5432"}, ".3=1 .4=1", 2},
		{"one of a set goes", "db", []string{"set-backends db 10.0.1.3:5432 10.0.1.4:5432", "remove-backend db 10.0.1.4:5432"}, ".3=1", 2},
		{"a pool takes all edits along", "main", []string{"set-weight main 10.0.0.1:8080 9", "put-pool main {backends: [{address: '10.0.0.9:1', weight: 4}]}"}, ".9=4", 1},
		{"a pool that comes and goes", "images", []string{"put-pool new {backends: [{address: '10.0.0.9:1'}]}", "drain new 10.0.0.9:1", "remove-pool new"}, ".3=1", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := NewDraft(NewTree("f", []byte(edited)), nil)
			for _, e := range edits(row.edits...) {
				if err := d.Add(e); err != nil {
					t.Fatal(err)
				}
			}
			tree, dormant := d.Tree()
			if got := backendsIn(t, tree, row.group); got != row.want || len(d.Edits()) != row.kept || len(dormant) > 0 {
				t.Errorf("backends %s, want %s; kept %+v, dormant %v", got, row.want, d.Edits(), dormant)
			}
			exported(t, tree)
		})
	}
}

func TestEditsOfServicesPoolsAndRoutes(t *testing.T) {
	for _, row := range []struct {
		name  string
		edits []string
		want  string // services with routes, then pools
		kept  int
	}{
		{"a route comes", []string{"put-route web  GET   /api/ -> images"}, "web[/:main /images/:images GET /api/:images] db[] images main service/db", 1},
		{"a route changes", []string{"put-route web / -> images"}, "web[/:images /images/:images] db[] images main service/db", 1},
		{"a route with a condition comes before the other", []string{"put-route web / -> images {headers: {x-beta: yes}}", "put-route web / -> main {headers: {x-beta: yes}}"},
			"web[/?:main /:main /images/:images] db[] images main service/db", 1},
		{"all routes of a pattern go", []string{"put-route web / -> images {headers: {x-beta: yes}}", "remove-route web /"}, "web[/images/:images] db[] images main service/db", 1},
		{"a route comes and goes", []string{"put-route web /x -> images", "remove-route web /x"}, "web[/:main /images/:images] db[] images main service/db", 0},
		{"a service comes", []string{"put-service new {listen: '203.0.113.11:80', backends: [{address: '10.0.0.1:80'}]}"}, "web[/:main /images/:images] db[] new[] images main service/db", 1},
		{"a service changes where it stands", []string{"drain db 10.0.1.1:5432", "put-service db {name: db, listen: '203.0.113.11:80', backends: [{address: '10.0.0.1:80'}]}"},
			"web[/:main /images/:images] db[] images main service/db", 1},
		{"a service goes with its routes", []string{"put-route web /x -> main", "remove-service web"}, "db[] images main service/db", 1},
		{"a pool goes with its route", []string{"remove-route web /images/", "remove-pool images"}, "web[/:main] db[] main service/db", 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := NewDraft(NewTree("f", []byte(edited)), nil)
			for _, e := range edits(row.edits...) {
				if err := d.Add(e); err != nil {
					t.Fatal(err)
				}
			}
			tree, dormant := d.Tree()
			s, err := tree.State(false)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range s.Services {
				var routes []string
				for _, r := range s.Services[i].HTTP.Routes {
					mark := ""
					if r.Conditional() {
						mark = "?"
					}
					routes = append(routes, r.Match+mark+":"+r.Pools[0].Pool)
				}
				got = append(got, s.Services[i].Name+"["+strings.Join(routes, " ")+"]")
			}
			for i := range s.Pools {
				got = append(got, s.Pools[i].Name)
			}
			want := strings.ReplaceAll(row.want, " service/db", "") // which is no HTTP service
			if strings.Join(got, " ") != want || len(d.Edits()) != row.kept || len(dormant) > 0 {
				t.Errorf("%s\nwant %s\nkept %+v, dormant %v", strings.Join(got, " "), want, d.Edits(), dormant)
			}
			exported(t, tree)
		})
	}
}

func TestFaultsOfEdits(t *testing.T) {
	for _, row := range []struct {
		name, edit, want string
		is               error
	}{
		{"no pool", "add-backend mian 10.0.0.1:1", `pool "mian": not found`, control.ErrNotFound},
		{"no pool but a service", "remove-pool db", `pool "db": not found: service "db" lists these backends itself`, control.ErrNotFound},
		{"no service", "remove-service wbe", `service "wbe": not found`, control.ErrNotFound},
		{"no route", "remove-route web /x", `route "/x" of service "web": not found`, control.ErrNotFound},
		{"no routes", "put-route db / -> main", `routes of service "db": not found`, control.ErrNotFound},
		{"no backend", "set-weight db 10.0.1.9:5432 1", `backend "10.0.1.9:5432" of service "db": not found: it has 10.0.1.1:5432, 10.0.1.2:5432`, control.ErrNotFound},
		{"no backends", "add-backend web 10.0.1.9:5432 1", `backends of service "web": not found`, control.ErrNotFound},
		{"there already", "add-backend main 10.0.0.1:8080", `backend "10.0.0.1:8080" of pool "main": already exists`, control.ErrExists},
		{"service there already", "put-service db {}", `service "db": already exists`, control.ErrExists},
		{"pool there already", "put-pool main {}", `pool "main": already exists`, control.ErrExists},
		{"route there already", "put-route web / -> images", `route "/" of service "web": already exists`, control.ErrExists},
		{"no weight", "set-weight db 10.0.1.1:5432", "change: weight: is missing: set-weight needs it", ErrInvalid},
		{"nothing known", "make main", `change: op: "make" is unknown`, ErrInvalid},
		{"no keys", "put-pool new", "change: pools.new: says nothing: give its keys, as in the configuration", ErrInvalid},
		{"no YAML", "put-pool new {", `change:1:1: not YAML near "{": did not find expected node content; check indentation, colons and quotes`, ErrInvalid},
		{"no mapping", "put-pool new [1]", `change: pools.new: a list stands where keys with values must stand`, ErrInvalid},
		{"an alias", "put-pool new {backends: *x}", "change:1:1: not YAML near \"{backends: *x}\": unknown anchor 'x' referenced; check indentation, colons and quotes", ErrInvalid},
		{"another name", "put-service db {name: web}", `change: services[1].name: "web" is not the service "db" that is to be put: remove the key`, ErrInvalid},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := edit(row.edit)
			e.New = errors.Is(row.is, control.ErrExists)
			err := NewDraft(NewTree("f", []byte(edited)), nil).Add(e)
			if err == nil || err.Error() != row.want || !errors.Is(err, row.is) {
				t.Errorf("error %v\nwant  %s", err, row.want)
			}
		})
	}
}

func TestFaultsOfWhatEditsMake(t *testing.T) {
	for _, row := range []struct{ name, edit, want string }{
		{"weight", "set-weight main 10.0.0.2:8080 1001", `change: pools.main.backends[1].weight: "1001" is not a number from 0 to 1000`},
		{"address", "add-backend images 10.0.0.1", `change: pools.images.backends[1].address: "10.0.0.1" has no port: write it like 10.0.0.1:8080; only a service with a range of ports may leave it out`},
		{"key", "put-pool new {backend: []}", `change: pools.new.backend: unknown key: did you mean backends?`},
		{"key twice", "put-pool new {backends: [{address: '10.0.0.1:80'}], send-proxy: v1, send-proxy: v1}", `change: pools.new.send-proxy: the key stands in line 1 already: remove one of the two`},
		{"pool in use", "remove-pool images", `f:4:116: services[0].routes[1].pool: "images" is not a pool: use main`},
		{"no pool", "put-route web /x -> none", `change: services[0].routes[2].pool: "none" is not a pool: use images or main (in route "/x" of service "web")`},
		{"pool in use by an edit", "put-route web /x -> images; put-route web /images/ -> main; remove-pool images", `change: services[0].routes[2].pool: "images" is not a pool: use main (in route "/x" of service "web")`},
		{"pool in use by a part of an edit", "put-service web {listen: '203.0.113.10:80', forward: http, routes: [{match: /, pool: main}, {match: /y, split: {main: 1, images: 2}}]}; remove-pool images",
			`change: services[0].routes[1].split.images: "images" is not a pool: use main (in route "/y" of service "web")`},
		{"pool in use by all of a service", "put-service web {listen: '203.0.113.10:80', forward: http, mirror: {pool: images}, routes: [{match: /, pool: main}]}; remove-pool images",
			`change: services[0].mirror.pool: "images" is not a pool: use main (in service "web")`},
		{"pool in use by a name of an edit", "put-service web {listen: '203.0.113.10:80', forward: tls, routes: [{server-name: a.example, pool: images}]}; remove-pool images",
			`change: services[0].routes[0].pool: "images" is not a pool: use main (in route "a.example" of service "web")`},
		{"port in use", "put-service new {listen: '203.0.113.10:80', backends: [{address: '10.0.0.1:80'}]}",
			`change: services[2].listen: 203.0.113.10:80/tcp is taken by service "web" in line 4 of f already: use another address or port, or make one service of the two`},
		{"route in use", "put-route web //images/ -> main", `change: services[0].routes[2].match: "//images/" matches nothing that could be forwarded: use another pattern`},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := NewDraft(NewTree("f", []byte(edited)), nil)
			for text := range strings.SplitSeq(row.edit, "; ") {
				before, _ := d.Tree()
				_, _ = before.State(false) // as an agent has read it, which remembers some
				if err := d.Add(edit(text)); err != nil {
					t.Fatal(err)
				}
			}
			tree, _ := d.Tree()
			if _, err := tree.State(false); err == nil || err.Error() != row.want {
				t.Errorf("error %v\nwant  %s", err, row.want)
			}
		})
	}
}

func TestEditsThatDoNotFitAnotherFileAreDormant(t *testing.T) {
	d := NewDraft(NewTree("f", []byte(edited)), nil)
	for _, e := range edits("set-weight db 10.0.1.1:5432 9", "put-route web /x -> images", "drain images 10.0.0.3:8080", "set-weight main 10.0.0.2:8080 4") {
		if err := d.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	other := strings.NewReplacer(", {match: /images/, pool: images}", "", `  images: {backends: [{address: "10.0.0.3:8080"}]}`, "", "10.0.1.1", "10.0.1.7").Replace(edited)
	tree, _, dormant, err := NewTree("f", []byte(other)).Fit(d.Edits())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range dormant {
		got = append(got, string(x.Edit.Op)+": "+x.Err.Error())
	}
	want := []string{
		`set-weight: backend "10.0.1.1:5432" of service "db": not found: it has 10.0.1.7:5432, 10.0.1.2:5432`,
		`put-route: change: services[0].routes[1].pool: "images" is not a pool: use main (in route "/x" of service "web")`,
		`drain: pool "images": not found`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dormant -want +got:\n%s", diff)
	}
	if got := backendsIn(t, tree, "main"); got != ".1=2 .2=4" {
		t.Errorf("main has %s", got)
	}
	if _, _, _, err := NewTree("f", []byte("services: 1")).Fit(d.Edits()); err == nil || strings.Contains(err.Error(), editHome) {
		t.Errorf("error %v, want that of the file", err)
	}
	tree, _, dormant, err = NewTree("f", []byte(edited)).Fit(d.Edits())
	if err != nil || len(dormant) > 0 || backendsIn(t, tree, "images") != ".3=0" {
		t.Errorf("back on the old file: %v, %v", dormant, err)
	}
}

func TestKeptEditsAreNotMoreThanWhatIsEdited(t *testing.T) {
	d := NewDraft(NewTree("f", []byte(edited)), nil)
	for i := range 200 {
		b := fmt.Sprintf("10.0.1.%d:5432", 100+i%5)
		for _, e := range edits("add-backend db "+b, "set-weight db "+b+" 5", "drain db "+b, "set-weight db 10.0.1.1:5432 "+strconv.Itoa(i), "remove-backend db "+b) {
			if err := d.Add(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	if kept := d.Edits(); len(kept) != 1 || !slices.Contains([]string{"10.0.1.1:5432"}, kept[0].Backend) {
		t.Errorf("kept %+v", kept)
	}
}

// TestWhatIsDormantIsTakenBack removes backends that were added where nothing is now.
func TestWhatIsDormantIsTakenBack(t *testing.T) {
	d := NewDraft(NewTree("f", []byte(edited)), nil)
	for _, e := range edits("add-backend db 10.0.1.3:5432", "set-weight db 10.0.1.3:5432 4", "add-backend images http://10.0.0.4:8080", "add-backend images 10.0.0.5:8080") {
		if err := d.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	base := NewTree("f", []byte("xdp: off\nservices: []\n"))
	d = NewDraft(base, d.Edits())
	for _, e := range edits("remove-backend db 10.0.1.3:5432", "remove-backend images http://10.0.0.4:8080/") {
		was := d.Changes()
		if err := d.Add(e); err != nil || d.Changes() != was+1 {
			t.Errorf("%+v: error %v, %d changes", e, err, d.Changes()-was)
		}
	}
	if kept := d.Edits(); len(kept) != 1 || kept[0].Backend != "10.0.0.5:8080" {
		t.Errorf("kept %+v", kept)
	}
	if err := d.Add(edit("remove-backend images 10.0.0.4:8080")); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("once more: error %v", err)
	}
}

// TestWhoComesAnewByAListIsAsNew, whatever was said while the file had it before.
func TestWhoComesAnewByAListIsAsNew(t *testing.T) {
	d := NewDraft(NewTree("f", []byte(edited)), nil)
	for _, e := range edits("set-weight db 10.0.1.1:5432 9", "drain db 10.0.1.1:5432", "set-weight db 10.0.1.2:5432 5") {
		if err := d.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	d = NewDraft(NewTree("f", []byte(strings.ReplaceAll(edited, "10.0.1.1:", "10.0.1.7:"))), d.Edits())
	if err := d.Add(edit("set-backends db 10.0.1.1:5432 10.0.1.2:5432")); err != nil {
		t.Fatal(err)
	}
	if tree, dormant := d.Tree(); len(dormant) > 0 || backendsIn(t, tree, "db") != ".1=1 .2=5" {
		t.Errorf("db has %s, dormant are %v", backendsIn(t, tree, "db"), dormant)
	}
}

// TestWhatIsSaidAgainChangesNothing: whatever was said of others in between.
func TestWhatIsSaidAgainChangesNothing(t *testing.T) {
	for _, row := range []struct{ name, again, others string }{
		{"a list of a pool", "set-backends main 10.0.0.5:80 10.0.0.6:80", "set-backends images 10.0.0.7:80"},
		{"a list of a service", "set-backends db 10.0.1.5:80", "set-backends images 10.0.0.7:80; set-weight main 10.0.0.1:8080 4"},
		{"a pool", "put-pool new {backends: [{address: '10.0.0.9:1'}]}", "put-pool images {backends: [{address: '10.0.0.9:2'}]}"},
		{"a service", "put-service db {listen: '203.0.113.11:80', backends: [{address: '10.0.0.1:80'}]}", "put-service new {listen: '203.0.113.12:80', backends: [{address: '10.0.0.1:80'}]}; put-route web /x -> main"},
		{"a route", "put-route web /x -> images", "put-route web /y -> main"},
		{"a route with a condition", "put-route web / -> images {headers: {x-beta: yes}}", "put-route web / -> images {query: {beta: yes}}"},
		{"a weight", "set-weight main 10.0.0.1:8080 4", "add-backend images http://10.0.0.1:8080/app"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := NewDraft(NewTree("f", []byte(edited)), nil)
			for text := range strings.SplitSeq(row.again+"; "+row.others, "; ") {
				if err := d.Add(edit(text)); err != nil {
					t.Fatal(err)
				}
			}
			kept, changes := slices.Clone(d.Edits()), d.Changes()
			if err := d.Add(edit(row.again)); err != nil || d.Changes() != changes {
				t.Errorf("error %v, %d changes", err, d.Changes()-changes)
			}
			if diff := cmp.Diff(kept, d.Edits()); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
		})
	}
}

// TestARouteThatChangesIsTriedWhenItWas: of those that have conditions the first that
// fits has the request.
func TestARouteThatChangesIsTriedWhenItWas(t *testing.T) {
	d := NewDraft(NewTree("f", []byte(edited)), nil)
	for _, e := range edits("put-route web / -> images {headers: {x-beta: yes}}", "put-route web / -> images {query: {beta: yes}}", "put-route web / -> main {headers: {x-beta: yes}}") {
		if err := d.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	want := exported(t, d.work)
	if tree, _ := d.Tree(); exported(t, tree) != want {
		t.Errorf("kept\n%s\nwant\n%s", exported(t, tree), want)
	}
}
