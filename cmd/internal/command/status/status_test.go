package status

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/cmd/internal/command"
	"fairlead/loader"
	"fairlead/testenv/golden"
	"fairlead/testenv/leak"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

var now = time.Date(2030, 1, 2, 12, 0, 10, 0, time.UTC)

func at(t time.Time) *time.Time { return &t }

// inKernel returns an instance that no agent keeps.
func inKernel() *kernel.View {
	return &kernel.View{
		Dir: "/sys/fs/bpf/fairlead", Mode: "on", Config: "/etc/fairlead.yaml", OnAgentLoss: "keep",
		Interfaces: []kernel.InterfaceView{{Name: "eth0", Ifindex: 2, Mode: "native", Program: 41}, {Name: "eth1", Ifindex: 3, Mode: "native", Program: 41}},
		Flows:      12, FlowTable: 131072, Memory: 34 << 20,
		Maps: []kernel.MapView{{Name: "flows", Entries: 262144, Bytes: 30 << 20}, {Name: "verdicts", Entries: 32, Bytes: 4 << 20}},
		View: datapath.View{
			Services: []datapath.ServiceView{
				{
					Name: "web", Listen: "203.0.113.10:80", Protocol: "tcp", Rung: "xdp", Local: true, OnDown: "reset", FullNAT: true, Slots: 3,
					Backends: []datapath.BackendView{
						{Address: "10.2.1.2:8080", State: "up", Weight: 1, Slots: 1, Connections: 12},
						{Address: "10.2.1.3:8080", State: "down", Weight: 2},
						{Address: "10.2.1.4:8080", State: "drain"},
					},
				},
				{Name: "dns", Listen: "203.0.113.10:53", Protocol: "udp", Rung: "proxy"},
			},
			Verdicts:  map[string]uint64{},
			Evictions: map[string]uint64{},
		},
	}
}

// agentView returns what an agent publishes.
func agentView() view.View {
	return view.View{
		Started: now.Add(-time.Hour), Written: now.Add(-400 * time.Millisecond),
		Config: "/etc/fairlead.yaml", ConfigError: "line 3\nline 4", CertificateError: "read key: none", PinDir: "/sys/fs/bpf/fairlead",
		Fragments: view.Fragments{Taken: 10, GivenBack: 4, TimedOut: 3, NoRoom: 2, Failed: 1},
		XDP: view.XDP{Mode: "auto", Interfaces: []view.Interface{
			{Name: "eth0", Mode: "native"}, {Name: "eth2", Reason: "no such interface"},
		}},
		Services: []view.Service{
			{
				Name: "web", Listen: "203.0.113.10:80", Protocol: "tcp", Forward: "full-nat", Rung: view.RungNative, Standby: true, Serving: model.ServingUp,
				Backends: []view.Backend{
					{Address: "10.2.1.2:8080", Weight: 1, Share: 100, Serves: true, Flows: 7, Up: true, Known: true, Since: now.Add(-time.Minute)},
					{Address: "10.2.1.3:8080", Weight: 2, Share: 100, Known: true, Since: now.Add(-48 * time.Hour), LastError: "connection refused"},
					{Address: "10.2.1.4:8080", Weight: 2, Share: 35, Serves: true, Flows: 2, Up: true, Known: true, Since: now.Add(-6 * time.Second),
						Suspect: &view.Suspicion{Since: now.Add(-2 * time.Second), Unanswered: 3, Refused: 2}},
					{Address: "10.2.1.5:8080", Share: 100, Flows: 3, Drains: at(now.Add(time.Minute)), Up: true, Known: true},
					{Address: "10.2.1.6:8080", Weight: 1, Share: 100, Backup: true, Up: true, Known: true},
				},
			},
			{
				Name: "near", Listen: "203.0.113.12:80", Protocol: "tcp", Forward: "dnat", Rung: view.RungNative, Standby: true, Serving: model.ServingZone,
				ClientZones: map[string]model.Serving{"east": model.ServingZone, "west": model.ServingPanic},
				Backends: []view.Backend{
					{Address: "10.2.1.2:8082", Zone: "east", Weight: 1, Share: 100, Serves: true, Up: true, Known: true},
					{Address: "10.2.2.2:8082", Zone: "west", Weight: 1, Share: 100, Up: true, Known: true},
					{Address: "10.2.3.2:8082", Weight: 1, Share: 100, Up: true, Known: true},
				},
			},
			{
				Name: "shop", Listen: "203.0.113.11:80", Protocol: "tcp", Forward: "dnat", Rung: view.RungNative, Standby: true, Serving: model.ServingPanic,
				Backends: []view.Backend{
					{Address: "10.2.1.2:8081", Weight: 1, Share: 100, Serves: true, Up: true, Known: true},
					{Address: "10.2.1.3:8081", Weight: 1, Share: 100, Serves: true, Known: true},
					{Address: "10.2.1.4:8081", Weight: 1, Share: 100, Serves: true, Known: true},
				},
			},
			{
				Name: "dns", Listen: "203.0.113.10:53", Protocol: "udp", Forward: "dnat", Rung: view.RungProxy, Reason: "backend 10.3.0.2:53: eth7 is not attached",
				StandbyReason: "this host listens there itself", Serving: model.ServingBackups,
				Certificates: []view.Certificate{
					{File: "/etc/fairlead/site.pem", Names: []string{"example.com", "*.example.com"}, Issuer: "Example CA", NotAfter: now.Add(90 * 24 * time.Hour)},
					{File: "acme", Names: []string{"example.org"}},
					{File: "/etc/fairlead/old.pem", Names: []string{"192.0.2.1"}, Issuer: "Example CA", NotAfter: now.Add(-time.Hour)},
				},
				Backends: []view.Backend{{Address: "10.3.0.2:53", Up: true}, {Address: "10.3.0.3:53", Weight: 1, Share: 100, Backup: true, Serves: true, Up: true}},
			},
		},
	}
}

func fails(err error) func(string) (*kernel.View, error) {
	return func(string) (*kernel.View, error) { return nil, err }
}

func gives(v *kernel.View) func(string) (*kernel.View, error) {
	return func(string) (*kernel.View, error) { return v, nil }
}

var notAttached = fails(fmt.Errorf("open /sys/fs/bpf/fairlead: %w", loader.ErrNotAttached))

// publish returns a run directory with the view of this process.
func publish(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := view.Write(dir, agentView()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// end makes the view in dir that of a process that is no more.
func end(t *testing.T, dir string) {
	t.Helper()
	v, err := view.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	v.Process--
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "status.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantGolden compares got with a file, and puts what changes from run to run in place.
func wantGolden(t *testing.T, name, got, runDir string) {
	t.Helper()
	got = strings.NewReplacer(runDir, "RUNDIR", fmt.Sprint("pid ", os.Getpid()), "pid PID", fmt.Sprintf(`"pid": %d`, os.Getpid()), `"pid": 0`,
		fmt.Sprintf(`"agent_pid": %d`, os.Getpid()), `"agent_pid": 0`,
		fmt.Sprint("process ", os.Getpid()), "process PID").Replace(got)
	golden.Check(t, name, got)
}

func TestTables(t *testing.T) {
	agent, dead, none := publish(t), publish(t), t.TempDir()
	end(t, dead)
	kept, silent, frozen, lost, off := inKernel(), inKernel(), inKernel(), inKernel(), inKernel()
	kept.AgentPID, kept.Heartbeat = os.Getpid(), at(now.Add(-time.Second))
	silent.AgentPID, silent.Heartbeat = os.Getpid(), at(now.Add(-7*time.Second))
	frozen.Heartbeat = at(now.Add(-7 * time.Second))
	frozen.Interfaces = []kernel.InterfaceView{{Name: "eth0", Ifindex: 2, Mode: "generic", Program: 41}, {Name: "eth1", Mode: "", Program: 41}}
	lost.Heartbeat, lost.OnAgentLoss = at(now.Add(-48*time.Hour)), "all-up"
	off.Mode = "off"
	for _, row := range []struct {
		golden string
		runDir string
		kernel func(string) (*kernel.View, error)
	}{
		{"nothing.txt", none, notAttached},
		{"kernel-alone.txt", none, gives(inKernel())},
		{"frozen.txt", dead, gives(frozen)},
		{"lost.txt", none, gives(lost)},
		{"off.txt", none, gives(off)},
		{"agent.txt", agent, gives(kept)},
		{"silent.txt", agent, gives(silent)},
		{"agent-without-view.txt", dead, gives(kept)},
		{"proxy-agent.txt", agent, gives(inKernel())},
		{"agent-alone.txt", agent, notAttached},
		{"without-root.txt", agent, fails(fmt.Errorf("open /sys/fs/bpf/fairlead: %w", loader.ErrPrivileges))},
	} {
		t.Run(row.golden, func(t *testing.T) {
			s, err := Read("", row.runDir, now, row.kernel)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := s.Write(&b); err != nil {
				t.Fatal(err)
			}
			wantGolden(t, row.golden, b.String(), row.runDir)
		})
	}
}

func TestJSONIsStable(t *testing.T) {
	agent, none := publish(t), t.TempDir()
	kept := inKernel()
	kept.AgentPID, kept.Heartbeat = os.Getpid(), at(now)
	for _, row := range []struct {
		golden, runDir string
		kernel         func(string) (*kernel.View, error)
	}{
		{"nothing.json", none, notAttached},
		{"kernel-alone.json", none, gives(inKernel())},
		{"agent.json", agent, gives(kept)},
	} {
		t.Run(row.golden, func(t *testing.T) {
			var out, errOut bytes.Buffer
			app := command.App("prog", "test", &out, &errOut, Command(row.kernel, func() time.Time { return now }))
			if code := command.Run(t.Context(), app, []string{"prog", "status", "-o", "json", "--run-dir", row.runDir}); code != 0 {
				t.Fatal(errOut.String())
			}
			got := out.String()
			if v, err := view.Read(row.runDir); err == nil {
				got = strings.ReplaceAll(got, fmt.Sprintf(`"process": %d`, v.Process), `"process": 0`)
			}
			wantGolden(t, row.golden, got, row.runDir)
		})
	}
}

func TestNothingToSeeIsAnError(t *testing.T) {
	for _, want := range []error{loader.ErrPrivileges, loader.ErrVersion} {
		if _, err := Read("", t.TempDir(), now, fails(want)); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

func TestNamesWithoutAddressesAreShown(t *testing.T) {
	v, dir := agentView(), t.TempDir()
	v.NameError = "look a.test up: no address\nlook b.test up: no address"
	if err := view.Write(dir, v); err != nil {
		t.Fatal(err)
	}
	s, err := Read("", dir, now, notAttached)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	if want := "\n          backends are missing: look a.test up: no address; look b.test up: no address\n"; !strings.Contains(b.String(), want) {
		t.Errorf("no %q in\n%s", want, b.String())
	}
}

// TestWhyThereIsNoView has what is seen before an agent has started, between the two
// processes of a handover or a restart, after the end, and beside other agents.
func TestWhyThereIsNoView(t *testing.T) {
	mine, dead, none := publish(t), publish(t), t.TempDir()
	end(t, dead)
	self, next := os.Getpid(), os.Getppid()
	kept, other := inKernel(), inKernel()
	kept.AgentPID, other.Dir = next, "/sys/fs/bpf/other"
	for _, row := range []struct {
		name, runDir string
		kernel       func(string) (*kernel.View, error)
		want         string
	}{
		{"before the first", none, notAttached, fmt.Sprintf("no agent publishes its status in %s/status.json: start one, or give the --run-dir of one that runs", none)},
		{"while the first starts", none, gives(kept), fmt.Sprintf("no agent publishes its status in %s/status.json: process %d has just started (ask again), or has another --run-dir", none, next)},
		{"in a handover", mine, gives(kept), fmt.Sprintf("process %d writes %s/status.json, and process %d keeps XDP: that one is taking over (ask again), or has another --run-dir", self, mine, next)},
		{"after it was killed", dead, gives(inKernel()), fmt.Sprintf("process %d, which wrote %s/status.json at 12:00:09, has ended: start one, or give the --run-dir of one that runs", self, dead)},
		{"while the next one starts", dead, gives(kept), fmt.Sprintf("process %d, which wrote %s/status.json at 12:00:09, has ended: process %d has just started (ask again), or has another --run-dir", self, dead, next)},
		{"of other pins", mine, gives(other), fmt.Sprintf("process %d, which writes %s/status.json, has its pins in /sys/fs/bpf/fairlead: give that --pin-dir, or the --run-dir of an agent of /sys/fs/bpf/other", self, mine)},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, err := Read("", row.runDir, now, row.kernel)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			if err := s.Write(&b); err != nil {
				t.Fatal(err)
			}
			if s.Agent != nil || s.AgentReason != row.want || !strings.Contains(b.String(), "\nview      none: "+row.want+"\n") {
				t.Errorf("agent %v, reason\n%s, want\n%s\ntable\n%s", s.Agent, s.AgentReason, row.want, b.String())
			}
		})
	}
}

func TestAnAgentThatStartsIsNotItsPredecessor(t *testing.T) {
	k := inKernel()
	k.AgentPID, k.Heartbeat = os.Getpid(), at(time.Now().Add(-time.Hour*1000))
	s, err := Read("", t.TempDir(), time.Now(), gives(k))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("agent pid %d, starting since ", os.Getpid()); !strings.HasPrefix(s.Health, want) {
		t.Errorf("health %q, want %q", s.Health, want)
	}
}

func TestWhatStandsBesideTheFile(t *testing.T) {
	at := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		v    view.View
		want string
	}{
		{view.View{}, "config    f.yaml\n"},
		{view.View{Edits: 2}, "config    f.yaml, with 2 changes of the API on top (revision 7)\n"},
		{view.View{Applied: true}, "config    f.yaml does not count: a configuration that was applied stands in its place (revision 7)\n"},
	} {
		row.v.Config, row.v.Revision, row.v.Written = "f.yaml", 7, at
		row.v.XDP.Mode = model.XDPOff
		row.v.Services = []view.Service{{Name: "web", Backends: []view.Backend{{
			Address: "10.2.1.2:80", Last: &view.Last{At: at.Add(-8 * time.Second), Up: new(true), Latency: &view.Latency{Median: 0.001, P95: 0.0025, P99: 0.01}},
		}}}}
		var b bytes.Buffer
		if err := Told(&row.v, nil, at).Write(&b); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{row.want, "instance  none: xdp is off\n", "not probed yet; up 8s ago; p50 1ms p95 2.5ms p99 10ms of before 11:59:52"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q in\n%s", want, b.String())
			}
		}
	}
}
