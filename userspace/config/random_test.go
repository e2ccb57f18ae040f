package config

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"fairlead/userspace/control"
)

// anyEdit returns an edit that may or may not be good.
func anyEdit(r *rand.Rand) control.Edit {
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	owner, n := pick("main", "images", "db", "extra"), r.IntN(6)
	backend := fmt.Sprintf("10.0.%d.%d:%d", r.IntN(2), 1+r.IntN(4), []int{8080, 5432}[r.IntN(2)])
	switch r.IntN(12) {
	case 0:
		return edit(fmt.Sprintf("put-pool %s {backends: [{address: '%s', weight: %d}]}", pick("main", "images", "extra"), backend, n))
	case 1:
		return edit("remove-pool " + pick("images", "extra"))
	case 2:
		return edit(fmt.Sprintf("put-route web %s -> %s", pick("/", "/images/", "/x/"), pick("main", "images", "extra")))
	case 3:
		return edit(fmt.Sprintf("put-route web / -> %s {headers: {x-beta: '%d'}}", pick("main", "images"), n%2))
	case 4:
		return edit("remove-route web " + pick("/images/", "/x/"))
	case 5:
		return edit(fmt.Sprintf("put-service %s {listen: '203.0.113.10:%d', forward: proxy, backends: [{address: '%s'}]}", pick("db", "new"), 6000+n, backend))
	case 6:
		return edit("remove-service " + pick("db", "new"))
	case 7:
		return edit(fmt.Sprintf("set-backends %s %s 10.0.0.9:80", owner, backend))
	case 8:
		return edit(fmt.Sprintf("%s %s %s", pick("drain", "undrain"), owner, backend))
	case 9:
		return edit(fmt.Sprintf("set-weight %s %s %d", owner, backend, n))
	case 10:
		return edit(fmt.Sprintf("remove-backend %s %s", owner, backend))
	}
	return edit(fmt.Sprintf("add-backend %s %s %d", owner, backend, n))
}

func wantText(t *testing.T, got, want, of string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s:\n%s\nwant\n%s", of, got, want)
	}
}

// TestRandomEditsAreKeptWhole makes good edits, one after the other, and wants what is
// kept of them to lead to the same configuration: again, on what was exported of the
// files, and beside an edit that does not fit.
func TestRandomEditsAreKeptWhole(t *testing.T) {
	rounds := 3
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		rounds = 100
	}
	dir := write(t, map[string]string{
		"main.yaml": "pools: {images: {backends: [{address: '10.0.0.3:8080'}]}}\ninclude: [more.yaml]\n" + `xdp: off
services:
  - {name: web, listen: "203.0.113.10:80", forward: http, routes: [{match: /, pool: main}, {match: /images/, pool: images}]}
`,
		"more.yaml": `pools: {main: {backends: [{url: "http://10.0.0.1:8080/app", weight: 2}, {address: "10.0.0.2:8080"}]}}
services: [{name: db, listen: "203.0.113.10:5432", forward: proxy, backends: [{address: "10.0.1.1:5432", weight: 3}, {address: "10.0.1.2:5432"}]}]
`,
	})
	base, err := Read(filepath.Join(dir, "main.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	document, homeless := exported(t, base), edit("put-service taken {listen: '203.0.113.10:80', forward: proxy, backends: [{address: '10.0.0.1:80'}]}")
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 1))
		var kept []control.Edit
		good, repeated := 0, 0
		for range 120 {
			d, e := NewDraft(base, kept), anyEdit(r)
			if len(kept) > 0 && r.IntN(3) == 0 {
				e = kept[r.IntN(len(kept))] // once more
			}
			before := exported(t, d.work)
			if d.Add(e) != nil {
				continue
			}
			if d.Changes() == 0 {
				repeated++
				wantText(t, exported(t, d.work), before, fmt.Sprintf("seed %d: %+v is said to change nothing after %+v", seed, e, kept))
			}
			tree, dormant := d.Tree()
			if len(dormant) > 0 {
				t.Fatalf("seed %d: %+v are dormant of %+v", seed, dormant, d.Edits())
			}
			if _, err := tree.State(false); err != nil {
				continue
			}
			good++
			kept = d.Edits()
			if good%8 > 0 {
				continue
			}
			text := exported(t, tree)
			again, _ := NewTreeBeside(filepath.Join(dir, "main.yaml"), "revision", []byte(document)).With(kept)
			wantText(t, exported(t, again), text, fmt.Sprintf("seed %d: on the document, edits %+v", seed, kept))
			if tree, _, dormant, err = base.Fit(append([]control.Edit{homeless}, kept...)); err != nil || len(dormant) != 1 || exported(t, tree) != text {
				t.Fatalf("seed %d: %v, %+v are dormant of %+v", seed, err, dormant, kept)
			}
		}
		if good < 10 || repeated == 0 || len(kept) > 60 {
			t.Errorf("seed %d: %d edits were good, %d of them changed nothing, %d are kept", seed, good, repeated, len(kept))
		}
	}
}
