package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/leak"
	"fairlead/userspace/datapath"
	"fairlead/userspace/host"
	"fairlead/userspace/model"
)

// childTask makes the test binary a command that is killed on its way.
const childTask = "FAIRLEAD_KERNEL_CHILD"

// A task is what such a command does.
type task struct {
	Dir   string
	State *model.State // nil: detach
	Die   int          // after that many points at which it can be killed
}

func TestMain(m *testing.M) {
	t := os.Getenv(childTask)
	if t == "" {
		_, _ = datapath.Now() // whose program stays; without root there is none
		os.Exit(leak.Each(m).Run())
	}
	if err := playCommand(t); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func playCommand(text string) error {
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	crash = func(point string) {
		if t.Die--; t.Die < 0 {
			fmt.Fprintln(os.Stderr, "killed after:", point)
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		}
	}
	if t.State == nil {
		return Detach(context.Background(), t.Dir, nil, 0, nil)
	}
	k, _, err := Attach(context.Background(), t.State, Options{Dir: t.Dir, SetSysctl: true})
	if err != nil {
		return err
	}
	return k.Close()
}

// killed runs a command on the balancer and reports whether it came to the
// point at which it is to die.
func killed(t *testing.T, r *testenv.Rig, what task) bool {
	t.Helper()
	text, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.Stderr = append(os.Environ(), childTask+"="+string(text)), &stderr
	err = r.Balancer.Run(cmd)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
		t.Logf("step %d: %s", what.Die, strings.TrimSpace(stderr.String()))
		return true
	}
	t.Fatalf("command: %v: %s", err, stderr.String())
	return false
}

// traces are what a command may leave on the host, and what was there before.
type traces struct {
	addresses, settings, neighbours string
}

func tracesOf(t *testing.T, r *testenv.Rig) (found traces) {
	t.Helper()
	r.Balancer.Do(t, func() error {
		addrs, err := netlink.AddrList(nil, unix.AF_UNSPEC)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			found.addresses += a.IPNet.String() + " "
		}
		list, err := netlink.NeighList(0, unix.AF_INET)
		if err != nil {
			return err
		}
		for _, n := range list {
			if n.FlagsExt&netlink.NTF_EXT_MANAGED != 0 {
				found.neighbours += n.IP.String() + " "
			}
		}
		for _, name := range []string{"ipv4/conf/client1/forwarding", "ipv6/conf/client1/forwarding", "ipv6/conf/client1/accept_ra"} {
			b, err := os.ReadFile("/proc/sys/net/" + name)
			if err != nil {
				return err
			}
			found.settings += strings.TrimSpace(string(b)) + " "
		}
		return nil
	})
	return found
}

// A crashRow is a command that is killed, and the state that was attached
// before, if any.
type crashRow struct {
	name        string
	first, dies *model.State // dies nil: detach
	stride      int          // from one point at which it is killed to the next
}

// unprepare makes the balancer one that neither forwards nor knows its backend,
// and on which somebody has put an address.
func unprepare(t *testing.T, r *testenv.Rig, admin netip.Addr) {
	t.Helper()
	r.Balancer.Do(t, func() error {
		look, err := host.LookAtAddresses()
		if err != nil {
			return err
		}
		l, lerr := netlink.LinkByName("backend1")
		if err := errors.Join(look.Put(admin), lerr); err != nil {
			return err
		}
		// The rig's neighbours are permanent, which leaves nothing to manage.
		return netlink.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: r.BackendAddrs[0].AsSlice()})
	})
	for setting, value := range map[string]string{
		"ipv4.conf.client1.forwarding": "0", "ipv6.conf.client1.forwarding": "0", "ipv6.conf.client1.accept_ra": "1",
	} {
		r.Balancer.Sysctl(t, "net."+setting, value)
	}
}

func TestKilledAnywhere(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 1, IPv6: true})
	serve(t, r)
	unprepare(t, r, netip.MustParseAddr("203.0.113.99"))
	before := tracesOf(t, r)
	small := stateOf(r)
	large := stateOf(r)
	for i, a := range []string{"203.0.113.11", "203.0.113.99"} {
		s := small.Services[0]
		s.Name, s.Listen = "more"+strconv.Itoa(i), netip.AddrPortFrom(netip.MustParseAddr(a), 80)
		large.Services = append(large.Services, s)
	}
	six := stateOf(r)
	six.Services = append(six.Services, onClientsLink(r, small.Services[0]))
	rows := []crashRow{
		{"attach", nil, large, 1},
		{"attach again with more", small, large, 1},
		{"attach again with less", large, small, 1},
		{"attach again with IPv6", small, six, 3}, // two programs take longer
		{"detach", large, nil, 1},
	}
	if os.Getenv("FAIRLEAD_VM") != "" {
		rows = rows[1:2] // an emulated machine takes seconds for each
		rows[0].stride = 5
	}
	for _, row := range rows {
		for _, next := range []*model.State{large, nil} {
			name := row.name + " then " + map[bool]string{true: "detach", false: "attach"}[next == nil]
			t.Run(name, func(t *testing.T) {
				dir := pins(t)
				for die, more := 0, true; more; die += row.stride {
					if row.first != nil && killed(t, r, task{dir, row.first, 1000}) {
						t.Fatal("killed too early")
					}
					more = killed(t, r, task{dir, row.dies, die})
					mend(t, r, dir, next)
					if after := tracesOf(t, r); after != before {
						t.Fatalf("left behind: %+v, before %+v", after, before)
					}
				}
			})
		}
	}
}

// onClientsLink returns a service like s whose IPv6 address is among the first
// client's neighbours.
func onClientsLink(r *testenv.Rig, s model.Service) model.Service {
	s.Name = "six"
	s.Listen = netip.AddrPortFrom(netip.MustParseAddr("2001:db8:1:1::80"), 80)
	s.Backends = []model.Backend{{Address: netip.AddrPortFrom(testenv.Six(r.BackendAddrs[0]), 8080), Weight: 1}}
	return s
}

// mend runs the command that comes after a killed one, attach if there is a
// state, and takes everything out.
func mend(t *testing.T, r *testenv.Rig, dir string, state *model.State) {
	t.Helper()
	if state != nil {
		k, _ := attached(t, r, state, Options{Dir: dir, SetSysctl: true})
		if mode := k.Instance().Control().Mode(); mode != loader.ModeOn {
			t.Errorf("mode %s", mode)
		}
		if _, err := ask(t, r.Clients[0]); err != nil {
			t.Errorf("after attaching again: %v", err)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
	r.Balancer.Do(t, func() error {
		err := Detach(t.Context(), dir, nil, 0, nil)
		if state == nil && errors.Is(err, loader.ErrNotAttached) {
			return nil
		}
		return err
	})
}
