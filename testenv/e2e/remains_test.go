package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/stage"
)

func TestDetachLeavesNothing(t *testing.T) {
	s, before := unpreparedHost(t)
	s.Loader("attach", "--set-sysctl").OK(t)
	during := hostState(t, s)
	for _, want := range []string{"address " + vip, "backend1/forwarding 1", "neighbour " + s.BackendAddrs[0].String(), "xdp client1", "pins fairlead", ".lock"} {
		if !strings.Contains(during, want) {
			t.Errorf("attach made no %q:\n%s", want, during)
		}
	}
	if _, err := s.Get(0, web); err != nil {
		t.Error(err)
	}
	s.Loader("detach").OK(t)
	if diff := cmp.Diff(before, hostState(t, s)); diff != "" {
		t.Errorf("detach left something behind (-before +after):\n%s", diff)
	}
}

func TestDetachOnExitLeavesNothing(t *testing.T) {
	s, before := unpreparedHost(t)
	agent := s.StartAgent("--set-sysctl", "--detach-on-exit", "--grace", "0s")
	if _, err := s.Get(0, web); err != nil {
		t.Error(err)
	}
	if code := agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with status %d", code)
	}
	if diff := cmp.Diff(before, hostState(t, s)); diff != "" {
		t.Errorf("the agent left something behind (-before +after):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(s.RunDir, "status.json")); err == nil {
		t.Error("the agent left its view behind")
	}
}

func TestDetachAfterKilledAgentLeavesNothing(t *testing.T) {
	s, before := unpreparedHost(t)
	s.StartAgent("--set-sysctl").Stop(syscall.SIGKILL)
	s.Loader("detach").OK(t)
	if diff := cmp.Diff(before, hostState(t, s)); diff != "" {
		t.Errorf("detach left something behind (-before +after):\n%s", diff)
	}
}

// unpreparedHost raises a stage whose balancer neither forwards nor knows its
// first backend's MAC address. It returns the state of the host, too.
func unpreparedHost(t *testing.T) (*stage.Stage, string) {
	t.Helper()
	s := newStage(t, testenv.RigOptions{})
	configure(s, "")
	s.Balancer.Sysctl(t, "net.ipv4.ip_forward", "0")
	s.Balancer.Do(t, func() error {
		l, err := netlink.LinkByName(s.BackendLinks[0])
		if err != nil {
			return err
		}
		return netlink.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: s.BackendAddrs[0].AsSlice()})
	})
	return s, hostState(t, s)
}

// hostState returns all that a command may change on the balancer: addresses,
// XDP programs, neighbours that stay, forwarding, pins and lock files.
func hostState(t *testing.T, s *stage.Stage) string {
	t.Helper()
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	s.Balancer.Do(t, func() error { return addNetwork(add) })
	pins, err := os.ReadDir(filepath.Dir(s.PinDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pins {
		add("pins %s", p.Name())
	}
	sum := sha256.Sum256([]byte(s.PinDir)) // as loader names its lock files
	locks, err := filepath.Glob(filepath.Join(loader.RunDir, fmt.Sprintf("%x.*", sum[:8])))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range locks {
		add("lock file %s", l)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// addNetwork adds what is found in the namespace of the calling thread.
func addNetwork(add func(format string, args ...any)) error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		name := l.Attrs().Name
		if x := l.Attrs().Xdp; x != nil && x.Attached {
			add("xdp %s", name)
		}
		addrs, err := netlink.AddrList(l, unix.AF_UNSPEC)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			add("address %s on %s", a.IPNet, name)
		}
		neighbours, err := netlink.NeighList(l.Attrs().Index, unix.AF_UNSPEC)
		if err != nil {
			return err
		}
		for _, n := range neighbours {
			if n.State&unix.NUD_PERMANENT != 0 || n.FlagsExt&netlink.NTF_EXT_MANAGED != 0 {
				add("neighbour %s on %s, managed: %t", n.IP, name, n.FlagsExt&netlink.NTF_EXT_MANAGED != 0)
			}
		}
	}
	files := []string{"/proc/sys/net/ipv4/ip_forward"}
	for _, pattern := range []string{"ipv4/conf/*/forwarding", "ipv6/conf/*/forwarding", "ipv6/conf/*/accept_ra"} {
		found, err := filepath.Glob("/proc/sys/net/" + pattern)
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	for _, f := range files {
		value, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		add("%s %s", f, strings.TrimSpace(string(value)))
	}
	return nil
}
