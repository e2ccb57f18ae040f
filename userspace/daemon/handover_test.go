package daemon

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead/userspace/view"
)

// Where the services of these tests listen, on loopback.
const (
	tcpPort = 20200 + iota
	httpPort
	udpPort
	metricsPort
	webPort
)

func at(port uint16) string { return netip.AddrPortFrom(loopback, port).String() }

// repeats is how often processes take each other's place.
const repeats = 10

// supervised starts an agent under a supervisor, with a service for each proxy.
func supervised(t *testing.T, grace time.Duration) *supervisor {
	t.Helper()
	return supervisedWith(t, grace, "", nil)
}

// supervisedWith is supervised with more of a configuration, and other options.
func supervisedWith(t *testing.T, grace time.Duration, config string, change func(*Options)) *supervisor {
	t.Helper()
	dir := t.TempDir()
	o := Options{
		Config: filepath.Join(dir, "fairlead.yaml"), RunDir: filepath.Join(dir, "run"), PinDir: filepath.Join(dir, "pins"),
		StateDir: filepath.Join(dir, "state"), Metrics: at(metricsPort), Web: at(webPort), Grace: grace, Handover: true,
	}
	if change != nil {
		change(&o)
	}
	s := newSupervisor(t, o)
	greeter, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, greeter, func(c net.Conn) {
		_, _ = c.Write([]byte("!"))
		_, _ = io.Copy(c, c)
	})
	web := httpServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-r.Context().Done()
		}
	})
	var datagrams []string
	for i := range 4 {
		datagrams = append(datagrams, echoDatagrams(t, byte('0'+i)))
	}
	s.env = []string{crashFile + "=" + filepath.Join(dir, "crash")}
	s.greeter = greeter.Addr().String()
	s.good = config + fmt.Sprintf(`services:
  - {name: tcp, listen: '%s', forward: proxy, backends: [{address: '%s'}], health: {type: none}}
  - {name: http, listen: '%s', forward: http, backends: [{address: '%s'}], health: {type: none}}
  - {name: udp, listen: '%s', protocol: udp, forward: proxy, balance: random, backends: [{address: '%s'}, {address: '%s'}, {address: '%s'}, {address: '%s'}], health: {type: none}}
`, at(tcpPort), s.greeter, at(httpPort), web, at(udpPort), datagrams[0], datagrams[1], datagrams[2], datagrams[3])
	s.configure(s.good)
	s.start()
	return s
}

// echoDatagrams opens a backend that answers each datagram with its name and itself.
func echoDatagrams(t *testing.T, name byte) (addr string) {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		var b [100]byte
		for {
			n, from, err := c.ReadFrom(b[:])
			if err != nil {
				return
			}
			_, _ = c.WriteTo(append([]byte{name}, b[:n]...), from)
		}
	}()
	return c.LocalAddr().String()
}

func (s *supervisor) configure(config string) {
	s.t.Helper()
	if err := os.WriteFile(s.opts.Config, []byte("xdp: off\n"+config), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// descriptors returns what those of the main process are, but for connections, which
// come and go.
func (s *supervisor) descriptors() (all []string) {
	s.t.Helper()
	dir := fmt.Sprintf("/proc/%d/", s.pid())
	sockets, err := os.ReadFile(dir + "net/tcp")
	if err != nil {
		s.t.Fatal(err)
	}
	connections := map[string]bool{}
	for line := range strings.Lines(string(sockets)) { // there may be very many
		if f := strings.Fields(line); f[3] != "0A" { // it does not listen
			connections["socket:["+f[9]+"]"] = true
		}
	}
	entries, err := os.ReadDir(dir + "fd")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		to, _ := os.Readlink(dir + "fd/" + e.Name()) // "" if it is closed by now
		if to != "" && !connections[to] {
			all = append(all, to)
		}
	}
	return all
}

// TestSuccessorsTakeOver has one process after the other take over while clients come,
// and while others stay.
func TestSuccessorsTakeOver(t *testing.T) {
	s := supervised(t, 20*time.Second)
	var fds []string
	stop := visitors(t, visitUDP(t), visitTCP, visitTCP, visitHTTP(t, true), visitHTTP(t, false))
	for i := range repeats {
		long, err := welcomed()
		if err != nil {
			t.Fatal(err)
		}
		was := s.reload()
		if err := works(long); err != nil {
			t.Errorf("a connection of the process before: %v", err)
		}
		long.Close()
		if status := s.awaitEnd(was); status.ExitStatus() != 0 {
			t.Errorf("the process before ended with status %d", status.ExitStatus())
		}
		if i == 0 {
			s.awaitView()
			fds = s.descriptors()
		}
	}
	if came := stop(); came < 10 {
		t.Errorf("%d visits", came)
	}
	s.awaitView()
	if now := s.descriptors(); len(now) > len(fds)+2 {
		t.Errorf("descriptors at first:\n%q\nat last:\n%q", fds, now)
	}
	for _, name := range []string{"admin.sock", "pool/tcp.sock"} {
		c, err := net.Dial("unix", filepath.Join(s.opts.RunDir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		c.Close()
	}
	for _, url := range []string{"http://" + at(metricsPort) + "/metrics", "http://" + at(webPort) + "/"} {
		res, err := http.Get(url)
		if err != nil {
			t.Error(err)
			continue
		}
		res.Body.Close()
	}
	s.stop()
}

// TestRestartsRefuseNobody starts one process after the other has ended, while clients
// come: they wait for it.
func TestRestartsRefuseNobody(t *testing.T) {
	s := supervised(t, 20*time.Second)
	stop := visitors(t, visitTCP, visitTCP, visitHTTP(t, false))
	for range repeats {
		s.restart()
	}
	if came := stop(); came < 10 {
		t.Errorf("%d visits", came)
	}
	s.mu.Lock()
	if len(s.kept) != 5 {
		t.Errorf("kept: %v", s.kept)
	}
	s.mu.Unlock()
	// What no service wants any more is not kept.
	s.configure("services: []\n")
	s.reload()
	await(t, "sockets to be let go of", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.kept) == 2
	})
	await(t, "the port to be free", func() bool { return !listens(at(tcpPort)) })
}

// TestAProcessGoesOnWithoutASuccessor has successors fail in all ways, while clients
// come, and others stay.
func TestAProcessGoesOnWithoutASuccessor(t *testing.T) {
	s := supervised(t, 2*time.Second)
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	long, err := welcomed()
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	main := s.pid()
	stop := visitors(t, visitTCP, visitHTTP(t, true), visitHTTP(t, false))
	failed := 0
	for _, row := range []struct {
		name, want string
		spoil      func()
	}{
		{"no program", "no such file or directory", func() { s.install("/nonexistent") }},
		{"another program", "exit status 1", func() { s.install("/bin/false") }},
		{"configuration is bad", `stands where a list must stand`, func() { s.configure("services: 7\n") }},
		{"address that the host lacks", "this host lacks the address 192.0.2.1", func() {
			s.configure("addresses: leave\n" + s.good + "  - {name: away, listen: '192.0.2.1:80', backends: [{address: '127.0.0.1:1'}]}\n")
		}},
		{"killed before its turn", "signal: killed", func() { s.crash("self", stepPrepared) }},
		{"killed after it", "signal: killed", func() { s.crash("self", stepTurn) }},
	} {
		row.spoil()
		s.signal(syscall.SIGUSR2)
		failed = s.awaitLog("no successor, this process goes on", failed)
		if lines := strings.Split(s.logged(), "no successor, this process goes on"); !strings.Contains(lines[failed], row.want) {
			t.Errorf("%s: logged %q, want %q", row.name, lines[failed], row.want)
		}
		s.install(own)
		s.configure(s.good)
		s.crash("", "")
		if s.pid() != main {
			t.Fatalf("%s: process %d is the main one, want %d", row.name, s.pid(), main)
		}
		if err := works(long); err != nil {
			t.Errorf("%s: a connection is gone: %v", row.name, err)
		}
	}
	stop()
	// Changes are kept as before.
	s.configure("addresses: leave\n" + s.good)
	s.signal(syscall.SIGHUP)
	s.awaitLog(`msg="configuration taken"`, 0)
	if text := s.logged(); strings.Contains(text, "the state again") || strings.Contains(text, "keep the revision") {
		t.Error("the state is lost")
	}
	fds := s.descriptors()
	long.Close()
	s.reload()
	s.awaitView()
	if now := s.descriptors(); len(fds) > len(now)+2 {
		t.Errorf("descriptors after failed successors:\n%q\na new process has:\n%q", fds, now)
	}
	s.awaitEnd(main)
}

// TestSomebodyServesAfterAKill kills one of two processes while one takes over.
func TestSomebodyServesAfterAKill(t *testing.T) {
	s := supervised(t, 20*time.Second)
	for _, row := range []struct{ who, step string }{
		{"parent", stepPrepared}, {"parent", stepTurn}, {"parent", stepServing}, {"self", stepServing},
	} {
		was := s.pid()
		s.crash(row.who, row.step)
		s.signal(syscall.SIGUSR2)
		if row.who == "self" {
			await(t, "the successor to be the main process", func() bool { return s.pid() != was })
			s.awaitEnd(was)
			s.awaitEnd(s.pid())
			s.start()
		} else {
			s.awaitEnd(was)
			s.awaitSuccessor(was)
		}
		s.crash("", "")
		for _, visit := range []func() error{visitTCP, visitHTTP(t, false)} {
			if err := visit(); err != nil {
				t.Errorf("%s killed at %s: %v", row.who, row.step, err)
			}
		}
		s.restart()
	}
}

// TestConnectionsAreCutAfterTheGrace keeps a connection and a request open for longer
// than they may.
func TestConnectionsAreCutAfterTheGrace(t *testing.T) {
	s := supervised(t, 300*time.Millisecond)
	long, err := welcomed()
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	asked := make(chan error, 1)
	go func() {
		res, err := http.Get("http://" + at(httpPort) + "/wait")
		if err == nil {
			res.Body.Close()
		}
		asked <- err
	}()
	s.awaitRunning(1)
	s.awaitEnd(s.reload())
	if s.awaitLog("open=2 cut=2 grace=300ms", 0); works(long) == nil {
		t.Error("a connection goes on after the end of its process")
	}
	if err := <-asked; err == nil {
		t.Error("a request was answered after the end of its process")
	}
}

// awaitRunning waits until some requests run.
func (s *supervisor) awaitRunning(n int64) {
	s.t.Helper()
	await(s.t, "requests", func() bool {
		v, err := view.Read(s.opts.RunDir)
		return err == nil && v.Proxy.HTTP.Running == n
	})
}

// TestAPortChangesItsService has another kind of service listen where one did, while
// the supervisor keeps the socket open.
func TestAPortChangesItsService(t *testing.T) {
	s := supervised(t, 20*time.Second)
	for i, config := range []string{strings.Replace(s.good, "forward: http", "forward: proxy", 1), s.good} {
		s.configure(config)
		s.signal(syscall.SIGHUP)
		s.awaitLog(`msg="configuration taken"`, i)
		if err := visitHTTP(t, false)(); err != nil {
			t.Error(err)
		}
		if strings.Contains(s.logged(), "service is not served") {
			t.Error("the port was not free")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) != 5 {
		t.Errorf("kept: %v", s.kept)
	}
}

// TestHealthIsHandedOver asks whether a backend that is known to be down is so for a
// successor, which has not looked yet.
func TestHealthIsHandedOver(t *testing.T) {
	s := supervised(t, 20*time.Second)
	silent, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, silent, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	s.good = fmt.Sprintf("services: [{name: web, listen: '%s', forward: proxy, panic-threshold: 0, backends: [{address: '%s'}], health: {type: http, interval: 1h, fast-interval: 100ms, timeout: 100ms, fall: 1}}]\n", at(httpPort), silent.Addr())
	s.configure(s.good)
	s.reload()
	down := func() bool {
		v, err := view.Read(s.opts.RunDir)
		return err == nil && v.PID == s.pid() && len(v.Services) == 1 && !v.Services[0].Backends[0].Up
	}
	await(t, "the backend to be down", down)
	s.configure(strings.ReplaceAll(s.good, "timeout: 100ms", "timeout: 1h")) // no probe says so again in time
	s.signal(syscall.SIGHUP)
	s.awaitLog(`msg="configuration taken"`, 0)
	s.reload()
	await(t, "the successor to know", down)
}
