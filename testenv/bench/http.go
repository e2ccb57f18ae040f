package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	httpRounds = 5
	httpTime   = 2 * time.Second
	// streams is how many requests at once h2load has on each connection.
	streams = 16
)

// A httpLoad is a kind of requests.
type httpLoad struct {
	name, tool string
	args       []string
	scheme     string
	path       string
}

var httpLoads = []httpLoad{
	{"small answers", "wrk", []string{"-t", "1", "-c", "64"}, "http", "/"},
	{"answers of 64 KiB", "wrk", []string{"-t", "1", "-c", "64"}, "http", largePath},
	{"small answers over TLS", "wrk", []string{"-t", "1", "-c", "64"}, "https", "/"},
	{"small answers over HTTP/2 and TLS", "h2load", []string{"-t", "1", "-c", "16", "-m", strconv.Itoa(streams)}, "https", "/"},
}

// What wrk and h2load say: how many requests were answered, in how many seconds
// or how many of them in one, and what went wrong.
var (
	wrkCount    = regexp.MustCompile(`([0-9]+) requests in `)
	h2loadRate  = regexp.MustCompile(`finished in [^,]+, ([0-9.]+) req/s`)
	h2loadCount = regexp.MustCompile(`([0-9]+) succeeded`)
	h2loadError = regexp.MustCompile(`[1-9][0-9]* (failed|errored|timeout)\b|[1-9][0-9]* [345]xx`)
)

// A cost is what a load has got and what that took.
type cost struct {
	rate   float64       // requests per second
	each   time.Duration // CPU time of the balancer per request
	failed bool          // some requests, or all
}

// ask loads a site whose balancer is a process.
func (s *site) ask(l *httpLoad, d time.Duration) cost {
	s.Helper()
	url := fmt.Sprintf("%s://%s%s", l.scheme, vip, l.path)
	rate, count, bad, length := rateLine, wrkCount, errorLine, "-d"
	if l.tool == "h2load" {
		rate, count, bad, length = h2loadRate, h2loadCount, h2loadError, "-D"
	}
	args := append(slices.Clone(l.args), length, strconv.Itoa(max(1, int(d.Seconds()))), url)
	before := s.processTime()
	out, err := s.rig.Clients[0].CombinedOutput(exec.CommandContext(s.b.ctx, l.tool, args...))
	took := s.processTime() - before
	if err != nil {
		s.Fatalf("run %s: %v\n%s", l.tool, err, out)
	}
	if e := bad.Find(out); e != nil {
		s.Logf("%s: %s says: %s", url, l.tool, e)
	}
	perSecond, n := number(s, rate, out), number(s, count, out)
	return cost{rate: perSecond, each: time.Duration(float64(took) / n), failed: bad.Match(out)}
}

// number returns what a tool says at a place.
func number(s *site, at *regexp.Regexp, out []byte) float64 {
	s.Helper()
	m := at.FindSubmatch(out)
	if m == nil {
		s.Fatalf("read what the client says: no %s in\n%s", at, out)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || v == 0 {
		s.Fatalf("read what the client says: %s: %v\n%s", m[0], err, out)
	}
	return v
}

// processTime returns the CPU time of the balancer and of its children.
func (s *site) processTime() (total time.Duration) {
	s.Helper()
	parent := s.proxy.Process.Pid
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		s.Fatalf("find children of the balancer: %v", err)
	}
	pids := []string{strconv.Itoa(parent)}
	for _, l := range lists {
		children, _ := os.ReadFile(l) // a thread may have ended
		pids = append(pids, strings.Fields(string(children))...)
	}
	for _, text := range pids {
		pid, err := strconv.Atoi(text)
		if err != nil {
			s.Fatalf("find children of the balancer: %v", err)
		}
		t, err := cpuTime(clockOf(pid))
		if err != nil {
			s.Fatalf("%v", err)
		}
		total += t
	}
	return total
}

// A best is the best cost of all rounds: whatever else the machine does only
// makes it worse.
type best struct{ cost }

func (b *best) add(c cost) {
	b.rate = max(b.rate, c.rate)
	if b.each == 0 || c.each < b.each {
		b.each = c.each
	}
	b.failed = b.failed || c.failed
}

func httpMode(b *bench) {
	fairlead, err := besideThis("fairlead")
	if err != nil {
		b.Fatalf("%v", err)
	}
	caddy, err := besideThis("caddy")
	if err != nil {
		b.Fatalf("%v", err)
	}
	names := []string{"Fairlead", "HAProxy", "nginx", "Caddy"}
	sites := []*site{fairleadHTTP(b, fairlead), haproxyHTTP(b), nginxHTTP(b), caddyHTTP(b, caddy)}
	results := make([]best, len(httpLoads)*len(sites))
	var subjects []subject
	for l := range httpLoads {
		for i, s := range sites {
			r := &results[len(subjects)]
			subjects = append(subjects, subject{names[i] + ", " + httpLoads[l].name, func() float64 {
				c := s.ask(&httpLoads[l], httpTime)
				r.add(c)
				return c.rate
			}})
		}
	}
	b.measure("http", httpRounds, subjects)
	for l := range httpLoads {
		printHTTP(b, &httpLoads[l], names, results[l*len(sites):][:len(sites)])
	}
}

// printHTTP prints the results of one load.
func printHTTP(b *bench, l *httpLoad, names []string, results []best) {
	own, reference, other := results[0], results[1], results[3]
	t := table{
		title:   fmt.Sprintf("HTTP mode, %s (%s %s, best of %d rounds of %s)", l.name, l.tool, strings.Join(l.args, " "), httpRounds, httpTime),
		columns: []string{"through", "requests/s", "x HAProxy", "CPU us/request", "x HAProxy"},
		targets: []target{
			{what: "requests/s, Fairlead / Caddy", got: own.rate / other.rate, bound: 1, atLeast: true},
			{what: "CPU time, Fairlead / Caddy", got: float64(own.each) / float64(other.each), bound: 1},
		},
	}
	for i, r := range results {
		t.add(names[i], fmt.Sprintf("%.0f", r.rate), ratio(r.rate, reference.rate),
			fmt.Sprintf("%.1f", float64(r.each)/1e3), ratio(float64(r.each), float64(reference.each)))
		if r.failed {
			t.notes = append(t.notes, names[i]+": some requests failed.")
		}
	}
	t.print(b.out)
}
