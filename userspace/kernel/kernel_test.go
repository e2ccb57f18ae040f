package kernel

import (
	"context"
	"errors"
	"github.com/vishvananda/netlink"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/leak"
	"fairlead/userspace/datapath"
	"fairlead/userspace/host"
	"fairlead/userspace/model"
)

var vip = netip.MustParseAddr("203.0.113.10")

// stateOf is one TCP service over all backends of a rig.
func stateOf(r *testenv.Rig) *model.State {
	s := &model.State{XDP: model.XDPAuto, Addresses: model.AddressesAdd, FlowTable: 1024}
	s.Interfaces = append(append(s.Interfaces, r.ClientLinks...), r.BackendLinks...)
	web := model.Service{
		Name: "web", Listen: netip.AddrPortFrom(vip, 80), LastPort: 80,
		Protocol: model.TCP, Forward: model.ForwardDNAT, Balance: model.Balance{Method: model.RoundRobin}, OnDown: model.DownReset,
	}
	for _, b := range r.BackendAddrs {
		web.Backends = append(web.Backends, model.Backend{Address: netip.AddrPortFrom(b, 8080), Weight: 1})
	}
	s.Services = []model.Service{web}
	return s
}

// serve answers each connection to a backend with its index.
func serve(t *testing.T, r *testenv.Rig) {
	t.Helper()
	for i, b := range r.Backends {
		l := b.Listen(t, "tcp", ":8080")
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte{byte('0' + i)})
				c.Close()
			}
		}()
	}
}

// ask returns what a fresh connection to the service says.
func ask(t *testing.T, from *testenv.Host) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := from.DialContext(ctx, "tcp", "203.0.113.10:80")
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// pins is a directory for pins that does not exist yet. What is attached there
// at the end of the test goes away with it.
func pins(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(testenv.BPFFS(t), "fairlead")
	t.Cleanup(func() {
		leak.Note(t, dir)
		err := loader.Detach(context.Background(), dir, nil)
		if err != nil && !errors.Is(err, loader.ErrNotAttached) {
			t.Error(err)
		}
	})
	return dir
}

func attached(t *testing.T, r *testenv.Rig, state *model.State, o Options) (*Kernel, Report) {
	t.Helper()
	var k *Kernel
	var report Report
	r.Balancer.Do(t, func() (err error) {
		k, report, err = Attach(t.Context(), state, o)
		return err
	})
	t.Cleanup(func() { _ = k.Close() })
	return k, report
}

func detach(t *testing.T, r *testenv.Rig, dir string) {
	t.Helper()
	r.Balancer.Do(t, func() error { return Detach(t.Context(), dir, nil, 0, nil) })
}

func TestConnectionsAreSharedEvenly(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{})
	serve(t, r)
	dir := pins(t)
	_, report := attached(t, r, stateOf(r), Options{Dir: dir, Warn: func(s string) { t.Log("warning:", s) }})
	for _, i := range report.Interfaces {
		if i.Mode != loader.AttachNative {
			t.Errorf("%s is attached in %s mode: %s", i.Name, i.Mode, i.Reason)
		}
	}
	got := map[string]int{}
	for range 30 {
		answer, err := ask(t, r.Clients[0])
		if err != nil {
			t.Fatal(err)
		}
		got[answer]++
	}
	for _, b := range []string{"0", "1", "2"} {
		if got[b] != 10 {
			t.Errorf("backend %s got %d connections of 30, want 10: %v", b, got[b], got)
		}
	}
	v, err := Status(dir)
	if err != nil {
		t.Fatal(err)
	}
	if v.Mode != "on" || len(v.Services) != 1 || v.Services[0].Flows != 30 || v.Memory == 0 {
		t.Errorf("status = %+v", v)
	}
	detach(t, r, dir)
	if _, err := Status(dir); !errors.Is(err, loader.ErrNotAttached) {
		t.Errorf("status after detach: %v", err)
	}
	r.Balancer.Do(t, func() error {
		local, err := host.IsLocal(vip)
		if local {
			t.Error("detach left the service address behind")
		}
		return err
	})
}

func TestBackendThatIsDownGetsNothing(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{})
	serve(t, r)
	state := stateOf(r)
	dir := pins(t)
	k, _ := attached(t, r, state, Options{Dir: dir})
	down := []bool{true, false, true}
	if err := k.SetHealth([]int{0}, func(*model.Service) []bool { return down }); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if answer, err := ask(t, r.Clients[0]); err != nil || answer != "1" {
			t.Errorf("answer %q, %v, want that of backend 1", answer, err)
		}
	}
	// Attaching again keeps the health that the maps have.
	_, report := attached(t, r, state, Options{Dir: dir})
	if report.Outcome != loader.OutcomeUnchanged {
		t.Errorf("attaching again: %s", report.Outcome)
	}
	if answer, err := ask(t, r.Clients[0]); err != nil || answer != "1" {
		t.Errorf("answer %q, %v, want that of backend 1", answer, err)
	}
	down = []bool{true, true, true}
	if err := k.SetHealth([]int{0}, func(*model.Service) []bool { return down }); err != nil {
		t.Fatal(err)
	}
	var refused *net.OpError
	if _, err := ask(t, r.Clients[0]); !errors.As(err, &refused) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("with no backend left: %v, want a refusal", err)
		v, err := Status(dir)
		t.Logf("%+v, %v", v, err)
	}
	detach(t, r, dir)
}

func TestConfigurationThatOutgrowsItsMaps(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{})
	serve(t, r)
	state := stateOf(r)
	dir := pins(t)
	attached(t, r, state, Options{Dir: dir})
	if _, err := ask(t, r.Clients[0]); err != nil {
		t.Fatal(err)
	}
	for port := uint16(1000); port < 1100; port++ {
		s := state.Services[0]
		s.Name, s.Listen, s.LastPort = "more", netip.AddrPortFrom(vip, port), port
		state.Services = append(state.Services, s)
	}
	_, report := attached(t, r, state, Options{Dir: dir})
	if len(report.Grown) == 0 {
		t.Error("no map grew")
	}
	if _, err := ask(t, r.Clients[0]); err != nil {
		t.Fatal(err)
	}
	v, err := Status(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Services) != 101 || v.Services[0].Flows != 2 {
		t.Errorf("%d services, %d flows of the first, want 101 and 2", len(v.Services), v.Services[0].Flows)
	}
	detach(t, r, dir)
}

func TestWhatStandsAgainstAttaching(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 1})
	state := stateOf(r)
	try := func(o Options) (err error) {
		o.Dir = pins(t)
		r.Balancer.Do(t, func() error {
			var k *Kernel
			if k, _, err = Attach(t.Context(), state, o); err == nil {
				return k.Close()
			}
			return nil
		})
		return err
	}
	if err := try(Options{Interfaces: []string{"nosuch0"}}); err == nil || !strings.Contains(err.Error(), "nosuch0") {
		t.Errorf("unknown interface: %v", err)
	}
	r.Balancer.Sysctl(t, "net.ipv4.conf.client1.forwarding", "0")
	if err := try(Options{}); !errors.Is(err, ErrForwarding) || !strings.Contains(err.Error(), "sysctl -w net.ipv4.conf.client1.forwarding=1") {
		t.Errorf("forwarding off: %v", err)
	}
	if err := try(Options{SetSysctl: true}); err != nil {
		t.Errorf("with --set-sysctl: %v", err)
	}
	r.Balancer.Listen(t, "tcp", ":80")
	if err := try(Options{SetSysctl: true}); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "service web") {
		t.Errorf("port in use: %v", err)
	}
	var warned []string
	if err := try(Options{SetSysctl: true, Force: true, Warn: func(s string) { warned = append(warned, s) }}); err == nil || !errors.Is(err, loader.ErrForeign) {
		t.Logf("warnings: %q, err %v", warned, err)
	}
}

func TestReasonForGenericModeIsKept(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 1})
	state, dir := stateOf(r), pins(t)
	_, first := attached(t, r, state, Options{Dir: dir, Mode: model.XDPGeneric})
	_, again := attached(t, r, state, Options{Dir: dir, Mode: model.XDPGeneric})
	for i, report := range again.Interfaces {
		if want := first.Interfaces[i].Reason; !report.Already || report.Reason != want || want == "" {
			t.Errorf("%s: attached before %t, reason %q, want %q", report.Name, report.Already, report.Reason, want)
		}
	}
	detach(t, r, dir)
}

func TestHealthThatNobodyFoundOutIsUnknown(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 1})
	state, dir := stateOf(r), pins(t)
	k, _ := attached(t, r, state, Options{Dir: dir})
	if known, err := Health(dir, state); err != nil || known != nil {
		t.Errorf("health without any agent: %v, %v", known, err)
	}
	k.Instance().Control().Beat()
	if known, err := Health(dir, state); err != nil || len(known) != 1 || known[0][0] != datapath.HealthUp {
		t.Errorf("health after an agent: %v, %v", known, err)
	}
	detach(t, r, dir)
}

func TestDetachBesideAnAgentLeavesItTheAddresses(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 1})
	state, dir := stateOf(r), pins(t)
	local := func() (is bool) {
		r.Balancer.Do(t, func() (err error) {
			is, err = host.IsLocal(vip)
			return err
		})
		return is
	}
	lock, err := loader.LockAgent(t.Context(), dir, "digest")
	if err != nil {
		t.Fatal(err)
	}
	attached(t, r, state, Options{Dir: dir, Agent: true})
	detach(t, r, dir)
	if !local() {
		t.Error("detach beside an agent took the service address away")
	}
	attached(t, r, state, Options{Dir: dir, Agent: true, Added: []netip.Addr{vip}})
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	detach(t, r, dir)
	if local() {
		t.Error("an address that was handed over is left behind")
	}
}

func TestDetachOfTheLastLiveInterfaceLeavesNothing(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 2})
	dir := pins(t)
	attached(t, r, stateOf(r), Options{Dir: dir})
	r.Balancer.Do(t, func() error {
		link, err := netlink.LinkByName(r.BackendLinks[1])
		if err != nil {
			return err
		}
		if err := netlink.LinkDel(link); err != nil {
			return err
		}
		if err := Detach(t.Context(), dir, []string{r.ClientLinks[0], r.BackendLinks[0]}, 0, nil); err != nil {
			return err
		}
		var ways host.Routes
		local, err := ways.IsLocal(vip)
		if local {
			t.Error("the service address is left")
		}
		return err
	})
}

func TestGrowthKeepsNewServicesBackUntilTheyAreJudged(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{})
	state := stateOf(r)
	dir := pins(t)
	k, _ := attached(t, r, state, Options{Dir: dir})
	more := *state
	other := more.Services[0]
	other.Name, other.Listen, other.LastPort = "other", netip.AddrPortFrom(vip, 81), 81
	more.Services = append(slices.Clone(more.Services), other)
	down := func(*model.Service) []bool { return []bool{true, false, false} }
	if err := fill(k.Maps(), &more, &Options{Down: down}); err != nil {
		t.Fatal(err)
	}
	v, err := datapath.Read(k.Maps())
	if err != nil {
		t.Fatal(err)
	}
	rungs := map[string]string{}
	for _, s := range v.Services {
		rungs[s.Name] = s.Rung
		if s.Backends[0].State != "down" {
			t.Errorf("service %s: backend that is down is %s", s.Name, s.Backends[0].State)
		}
	}
	if rungs["web"] != "xdp" || rungs["other"] != "proxy" {
		t.Errorf("rungs = %v, want the new service on the proxy's", rungs)
	}
	detach(t, r, dir)
}

func TestNeighboursOfRemovedBackendsAreReleased(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{})
	state := stateOf(r)
	dir := pins(t)
	strange := netip.MustParseAddr("10.2.1.77")
	state.Services[0].Backends = append(state.Services[0].Backends, model.Backend{Address: netip.AddrPortFrom(strange, 80), Weight: 1})
	k, _ := attached(t, r, state, Options{Dir: dir})
	j, err := k.Maps().ReadJournal()
	if err != nil || len(j.Neighbours) != 1 || j.Neighbours[0].Address != strange {
		t.Fatalf("journal %+v, %v, want the neighbour %s", j.Neighbours, err, strange)
	}
	k, _ = attached(t, r, stateOf(r), Options{Dir: dir})
	if j, err = k.Maps().ReadJournal(); err != nil || len(j.Neighbours) != 0 {
		t.Errorf("journal %+v, %v, want no neighbour", j.Neighbours, err)
	}
	detach(t, r, dir)
}
