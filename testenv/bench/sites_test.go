package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/testenv"
)

func TestSitesAnswer(t *testing.T) {
	requirePrograms(t, "wrk", "haproxy", "nginx", "go")
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
	byHTTP := map[string]func(*bench) *site{
		"HTTP, fairlead": func(b *bench) *site { return fairleadHTTP(b, fairlead) }, "HTTP, haproxy": haproxyHTTP, "HTTP, nginx": nginxHTTP,
	}
	if os.Getenv("FAIRLEAD_SLOW") != "" { // it takes minutes to build
		out, err := exec.Command("../../scripts/caddy-fetch.sh").Output()
		if err != nil {
			t.Fatal(err)
		}
		byHTTP["HTTP, caddy"] = func(b *bench) *site { return caddyHTTP(b, strings.TrimSpace(string(out))) }
	}
	for name, newSite := range byHTTP {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(newBench(t))
			s.fetch(t, "http", "/", "HTTP/1.1", "bench")
			s.fetch(t, "http", largePath, "HTTP/1.1", strings.Repeat("x", largeSize))
			s.fetch(t, "https", "/", "HTTP/1.1", "bench")
			s.fetch(t, "https", "/", "HTTP/2.0", "bench")
			if c := s.ask(&httpLoads[0], time.Second); c.rate <= 0 || c.each <= 0 || c.failed {
				t.Errorf("the load has cost %+v", c)
			}
		})
	}
}

// fetch asks once by a protocol.
func (s *site) fetch(t *testing.T, scheme, path, proto, want string) {
	t.Helper()
	dials := &http.Transport{
		DialContext: s.rig.Clients[0].DialContext, ForceAttemptHTTP2: proto == "HTTP/2.0", TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	defer dials.CloseIdleConnections()
	c := http.Client{Transport: dials, Timeout: 30 * time.Second}
	r, err := c.Get(fmt.Sprintf("%s://%s%s", scheme, vip, path))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || string(body) != want || r.Proto != proto {
		t.Errorf("%s %s: %s %d, %d bytes: %v", scheme, path, r.Proto, r.StatusCode, len(body), err)
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
