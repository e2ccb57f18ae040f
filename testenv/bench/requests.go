package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"fairlead/testenv"
	"fairlead/userspace/model"
)

const (
	requestRounds = 9
	requestTime   = 2 * time.Second
	connections   = 64
	serverPort    = 8080
	// proxyTarget is the proxy's share of what HAProxy reaches.
	proxyTarget = 0.8
)

// A site is a rig of its own: HTTP servers, a balancer and a client that loads
// them at an address.
type site struct {
	testenv.TB
	b   *bench
	rig *testenv.Rig
	url string
	// proxy is what balances, nil if it is no process.
	proxy *exec.Cmd
}

// newSite raises servers, with nothing that balances.
func newSite(b *bench) *site {
	b.Helper()
	s := &site{TB: b, b: b, rig: testenv.NewRig(b, testenv.RigOptions{}), url: fmt.Sprintf("http://%s/", vip)}
	// Each connection leaves a port in TIME_WAIT for a minute.
	for _, h := range append([]*testenv.Host{s.rig.Balancer}, s.rig.Clients...) {
		h.Sysctl(b, "net.ipv4.ip_local_port_range", "1024 65000")
		h.Sysctl(b, "net.ipv4.tcp_tw_reuse", "1")
	}
	for _, h := range s.rig.Backends {
		go answer(h.Listen(b, "tcp4", fmt.Sprintf(":%d", serverPort)))
	}
	return s
}

// directSite has the client ask a server itself, through the balancer's stack.
func directSite(b *bench) *site {
	b.Helper()
	s := newSite(b)
	s.url = fmt.Sprintf("http://%s:%d/", s.rig.BackendAddrs[0], serverPort)
	return s
}

// xdpSite balances in the kernel.
func xdpSite(b *bench) *site {
	b.Helper()
	s := newSite(b)
	attach(b.ctx, b, s.rig, oneService(s.rig, model.TCP, 80, serverPort))
	return s
}

// proxySite runs the agent without XDP.
func proxySite(b *bench, fairlead string) *site {
	b.Helper()
	s := newSite(b)
	backends := ""
	for _, a := range s.rig.BackendAddrs {
		backends += fmt.Sprintf("      - address: %s:%d\n", a, serverPort)
	}
	config := s.write("fairlead.yaml", fmt.Sprintf(`xdp: off
services:
  - name: bench
    listen: %s:80
    protocol: tcp
    backends:
%s    health: {type: none}
`, vip, backends))
	dir := filepath.Dir(config)
	s.start(exec.Command(fairlead, "run", "--config", config, "--run-dir", filepath.Join(dir, "run"),
		"--pin-dir", filepath.Join(testenv.BPFFS(b), "fairlead"), "--state-dir", "off", "--log-level", "warn"))
	return s
}

// haproxySite runs HAProxy in TCP mode, on as many threads as the agent has.
func haproxySite(b *bench) *site {
	b.Helper()
	s := newSite(b)
	servers := ""
	for i, a := range s.rig.BackendAddrs {
		servers += fmt.Sprintf("  server s%d %s:%d\n", i, a, serverPort)
	}
	s.takeAddress()
	config := s.write("haproxy.cfg", fmt.Sprintf(`global
  maxconn 4000
defaults
  mode tcp
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  option splice-auto
listen bench
  bind %s:80
  balance roundrobin
%s`, vip, servers))
	s.start(exec.Command("haproxy", "-db", "-q", "-f", config))
	return s
}

// takeAddress gives the balancer the address of the service, which the agent does
// by itself.
func (s *site) takeAddress() {
	s.Helper()
	s.rig.Balancer.Do(s, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: netlink.NewIPNet(net.IP(vip.AsSlice()))})
	})
}

// write writes a file into a directory that goes away with the part.
func (s *site) write(name, text string) string {
	s.Helper()
	dir, err := os.MkdirTemp("", "fairlead-bench-*")
	if err != nil {
		s.Fatalf("make directory: %v", err)
	}
	s.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.Fatalf("write %s: %v", name, err)
	}
	return path
}

// start starts a proxy on the balancer and waits until the service answers.
func (s *site) start(cmd *exec.Cmd) {
	s.Helper()
	s.proxy, cmd.Stderr = cmd, s.b.log
	s.rig.Balancer.Start(s, cmd)
	s.Cleanup(func() { stop(cmd) })
	to := netip.AddrPortFrom(vip, 80).String()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := s.rig.Clients[0].DialContext(s.b.ctx, "tcp", to)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) || s.b.ctx.Err() != nil {
			s.Fatalf("wait for %s: %v", filepath.Base(cmd.Path), err)
		}
	}
}

// stop lets a proxy end by itself, so that it leaves nothing; one that does not
// is killed with its host.
func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill()
		<-done
	}
}

var (
	rateLine  = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	errorLine = regexp.MustCompile(`(?m)^.*(Socket errors|Non-2xx).*$`)
)

// load asks for some time, on 64 connections or on one connection for each
// request, and returns how many requests were answered in a second.
func (s *site) load(d time.Duration, perRequest bool) float64 {
	s.Helper()
	seconds := max(1, int(d.Seconds()))
	args := []string{"-t", "1", "-c", strconv.Itoa(connections), "-d", fmt.Sprintf("%ds", seconds)}
	if perRequest {
		args = append(args, "-H", "Connection: close")
	}
	out, err := s.rig.Clients[0].CombinedOutput(exec.CommandContext(s.b.ctx, "wrk", append(args, s.url)...))
	if err != nil {
		s.Fatalf("run wrk: %v\n%s", err, out)
	}
	if e := errorLine.Find(out); e != nil {
		s.Logf("%s: wrk says: %s", s.url, e)
	}
	m := rateLine.FindSubmatch(out)
	if m == nil {
		s.Fatalf("read what wrk says: no rate in\n%s", out)
	}
	rate, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || rate == 0 {
		s.Fatalf("read what wrk says: a rate of %s: %v\n%s", m[1], err, out)
	}
	return rate
}

func requests(b *bench) {
	fairlead, err := besideThis("fairlead")
	if err != nil {
		b.Fatalf("%v", err)
	}
	sites := []struct {
		name string
		*site
	}{
		{"no balancer, one server", directSite(b)},
		{"Fairlead, XDP", xdpSite(b)},
		{"Fairlead, proxy", proxySite(b, fairlead)},
		{"HAProxy, TCP mode", haproxySite(b)},
	}
	var subjects []subject
	for _, perRequest := range []bool{false, true} {
		for _, s := range sites {
			subjects = append(subjects, subject{s.name, func() float64 { return s.load(requestTime, perRequest) }})
		}
	}
	rates := b.measure("requests", requestRounds, subjects)
	kept, closed := rates[:len(sites)], rates[len(sites):]
	t := table{
		title:   fmt.Sprintf("Requests and connections per second (wrk -c %d, median of %d rounds of %s)", connections, requestRounds, requestTime),
		columns: []string{"through", "requests/s", "x HAProxy", "connections/s", "x HAProxy"},
		targets: []target{
			{what: "requests, proxy / HAProxy", got: kept[2] / kept[3], bound: proxyTarget, atLeast: true},
			{what: "connections, proxy / HAProxy", got: closed[2] / closed[3], bound: proxyTarget, atLeast: true},
		},
		notes: []string{"Client and servers share the machine's cores with what they measure."},
	}
	for i, s := range sites {
		t.add(s.name, fmt.Sprintf("%.0f", kept[i]), ratio(kept[i], kept[3]), fmt.Sprintf("%.0f", closed[i]), ratio(closed[i], closed[3]))
	}
	t.print(b.out)
}

// besideThis returns a program that was built beside this one.
func besideThis(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find %s beside this program: %w", name, err)
	}
	return path, nil
}
