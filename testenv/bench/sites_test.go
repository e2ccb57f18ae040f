package main

import (
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"fairlead/testenv"
)

func TestSitesAnswer(t *testing.T) {
	requirePrograms(t, "wrk", "haproxy", "go")
	fairlead := filepath.Join(t.TempDir(), "fairlead")
	if out, err := exec.Command("go", "build", "-o", fairlead, "fairlead/cmd/fairlead").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, newSite := range map[string]func(*bench) *site{
		"direct": directSite, "xdp": xdpSite, "haproxy": haproxySite,
		"proxy": func(b *bench) *site { return proxySite(b, fairlead) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each is on its own rig
			s := newSite(newBench(t))
			s.get(t, false)
			s.get(t, true)
			if name == "xdp" {
				s.load(time.Second, false)
				s.load(time.Second, true)
			}
		})
	}
}

// get asks twice, over one connection or over two.
func (s *site) get(t *testing.T, perRequest bool) {
	t.Helper()
	dials := &http.Transport{DialContext: s.rig.Clients[0].DialContext, DisableKeepAlives: perRequest}
	defer dials.CloseIdleConnections()
	c := http.Client{Transport: dials, Timeout: 30 * time.Second}
	for range 2 {
		r, err := c.Get(s.url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || string(body) != "bench" || r.Close != perRequest {
			t.Errorf("the answer is %q, closes=%v: %v", body, r.Close, err)
		}
	}
}

func TestReconcileWritesWhatDiffers(t *testing.T) {
	b := newBench(t)
	want := manyServices(300)
	r, closed := newReconciliation(b, testenv.NewRig(b, testenv.RigOptions{Backends: 1}), want)
	defer closed()
	if _, n := r.apply(want); n < 300*(1+3+1) {
		t.Errorf("wrote %d entries for 300 services, their backends and listeners", n)
	}
	if _, n := r.apply(want); n != 0 {
		t.Errorf("wrote %d entries the second time", n)
	}
	change(&want.Services[7])
	if _, n := r.apply(want); n == 0 || n > 8 {
		t.Errorf("wrote %d entries for one backend", n)
	}
	rows, err := r.maps.ReadServiceNames()
	if err != nil || rows[7] == "" {
		t.Errorf("the name of the eighth service is %q: %v", rows[7], err)
	}
}
