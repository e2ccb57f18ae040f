package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/loader"
	"fairlead/testenv"
)

const (
	askPort   = 9000 // where the servers wait for an order
	greetPort = 2525
)

// A fort is a rig of its own whose agent may answer SYNs with cookies.
type fort struct {
	*site
	cookies bool
	pid     int // the agent's
	inst    *loader.Instance
}

// newFort runs an agent on the balancer. With cookies nearly all connections
// begin with one, if some are made each second.
func newFort(b *bench, fairlead string, cookies bool) *fort {
	b.Helper()
	f := &fort{site: newSite(b), cookies: cookies}
	f.rig.Balancer.Sysctl(b, "net.ipv4.tcp_syncookies", "2")
	for _, h := range f.rig.Backends {
		go serve(h.Listen(b, "tcp4", fmt.Sprintf(":%d", askPort)), false)
		go serve(h.Listen(b, "tcp4", fmt.Sprintf(":%d", greetPort)), true)
	}
	config := f.write("fairlead.yaml", f.config())
	dir := filepath.Join(testenv.BPFFS(b), "fairlead")
	cmd := exec.Command(fairlead, "run", "--config", config, "--run-dir", filepath.Join(filepath.Dir(config), "run"),
		"--pin-dir", dir, "--state-dir", "off", "--log-level", "error")
	f.start(cmd)
	f.pid = cmd.Process.Pid
	f.await(dir)
	return f
}

// config returns the configuration of a service for each kind of servers.
func (f *fort) config() string {
	links := append(append([]string{}, f.rig.ClientLinks...), f.rig.BackendLinks...)
	text := fmt.Sprintf("interfaces: [%s]\nservices:\n", strings.Join(links, ", "))
	for _, s := range []struct {
		name             string
		port, serverPort int
	}{{"ask", 80, askPort}, {"greet", 25, greetPort}} {
		text += fmt.Sprintf("  - name: %s\n    listen: %s:%d\n    health: {type: none}\n    backends:\n", s.name, vip, s.port)
		for _, a := range f.rig.BackendAddrs {
			text += fmt.Sprintf("      - address: %s:%d\n", a, s.serverPort)
		}
		if f.cookies {
			text += "    syn-cookies: {above: 1}\n"
		}
	}
	return text
}

// await waits until the agent's proxy stands by, which cookies need, and opens
// its maps.
func (f *fort) await(dir string) {
	f.Helper()
	var err error
	if f.inst, err = loader.Open(dir); err != nil {
		f.Fatalf("open the agent's maps: %v", err)
	}
	f.Cleanup(func() { f.inst.Close() })
	for deadline := time.Now().Add(30 * time.Second); f.cookies; time.Sleep(10 * time.Millisecond) {
		rows, err := loader.ReadArray[loader.LBService](f.inst.Maps().Services)
		if err == nil && rows[0].Flags&rows[1].Flags&uint8(loader.LBServiceFlagSERVICE_COOKIES) != 0 {
			return
		}
		if time.Now().After(deadline) || f.b.ctx.Err() != nil {
			f.Fatalf("wait for cookies: %v", err)
		}
	}
}

// visitor returns a client of one of the services.
func (f *fort) visitor(greets bool) visitor {
	v := visitor{greets: greets}
	v.to.Addr, v.to.Port = vip.As4(), 80
	if greets {
		v.to.Port = 25
	}
	return v
}

// answered returns how many SYNs were answered with a cookie so far.
func (f *fort) answered() uint64 {
	f.Helper()
	verdicts, err := f.inst.Maps().ReadVerdicts()
	if err != nil {
		f.Fatalf("count cookies: %v", err)
	}
	return verdicts[loader.LBVerdictANSWER_COOKIE]
}

// cpuTime returns the CPU time of all who work on packets or connections here.
func (f *fort) cpuTime() time.Duration {
	f.Helper()
	var sum time.Duration
	for _, clock := range []int32{unix.CLOCK_PROCESS_CPUTIME_ID, clockOf(f.pid)} {
		t, err := cpuTime(clock)
		if err != nil {
			f.Fatalf("%v", err)
		}
		sum += t
	}
	for cpu := range runtime.NumCPU() {
		t, err := softirqTime(cpu)
		if err != nil {
			f.Fatalf("%v", err)
		}
		sum += t
	}
	return sum
}

// visits makes connections, so many at a time, and returns what became of them.
func (f *fort) visits(v visitor, n, atOnce int, o order) visits {
	f.Helper()
	begin, cookies := f.cpuTime(), f.answered()
	all, err := visitAll(f.rig.Clients[0], v, n, atOnce, o)
	if err != nil {
		f.Fatalf("%v", err)
	}
	all.cpu, all.cookies = f.cpuTime()-begin, int(f.answered()-cookies)
	if f.cookies && n >= shortVisits && all.cookies < n*9/10 {
		f.Fatalf("only %d of %d connections have begun with a cookie", all.cookies, n)
	}
	return all
}

// short returns the microseconds of CPU time that a short connection takes.
func (f *fort) short(greets bool) float64 {
	f.Helper()
	all := f.visits(f.visitor(greets), shortVisits, 8, shortOrder)
	if len(all.fails) > 0 {
		f.Fatalf("%d connections failed without loss: %v", len(all.fails), errors.Join(all.fails...))
	}
	return float64(all.cpu.Microseconds()) / shortVisits
}

// long returns the nanoseconds of CPU time that a kilobyte takes on one
// connection, and the megabytes in a second.
func (f *fort) long(o order) (ns, rate float64) {
	f.Helper()
	v := f.visitor(false)
	for range 10 {
		f.visits(v, 8, 1, shortOrder) // so that the next one begins with a cookie
		all := f.visits(v, 1, 1, o)
		if len(all.fails) > 0 {
			f.Fatalf("the long connection failed: %v", all.fails[0])
		}
		if f.cookies && all.cookies == 0 {
			continue // it was the first one of a second
		}
		bytes := float64(o.up + o.down)
		return float64(all.cpu.Nanoseconds()) / (bytes / 1024), bytes / 1e6 / all.took[0].Seconds()
	}
	f.Fatalf("no long connection has begun with a cookie")
	return 0, 0
}
