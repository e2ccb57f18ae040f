// Package stage is where end-to-end tests and the demo play: the rig of
// package testenv with the real programs on it.
//
// It starts loader, fairlead and dummyservers as processes, waits for what
// they do, asks as clients ask, and counts: every frame that a client or a
// backend sends must be in a verdict, every frame that XDP sends on must
// arrive. It asserts nothing about the balancer by itself.
//
//	s := stage.New(t, stage.Options{Programs: programs})
//	s.Serve(8080)
//	s.Configure("interfaces: %s\nservices: [...]", s.Links())
//	s.Loader("attach").OK(t)
//	count, err := s.Spread(0, "http://203.0.113.10/", 300)
package stage

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fairlead/testenv"
	"fairlead/testenv/leak"
	"fairlead/userspace/view"
)

// Patience is how long anything is waited for.
const Patience = testenv.Patience

// Options say what [New] raises.
type Options struct {
	testenv.RigOptions
	Programs Programs
}

// A Stage is a rig, and a place for what the programs write. Its methods end
// the test when something that every test needs does not work.
type Stage struct {
	*testenv.Rig
	tb       testenv.TB
	programs Programs
	// Dir is a temporary directory, ConfigPath a file in it, RunDir where the
	// agent publishes, PinDir where the datapath is pinned.
	Dir, ConfigPath, RunDir, PinDir string
	// Servers are the dummyservers, by backend, that [Stage.Serve] started.
	Servers []*Process
}

// New raises a stage that lasts as long as the test.
func New(tb testenv.TB, o Options) *Stage {
	tb.Helper()
	testenv.RequireRoot(tb)
	s := &Stage{tb: tb, programs: o.Programs}
	var err error
	if s.Dir, err = os.MkdirTemp("", "fairlead-stage-*"); err != nil {
		tb.Fatalf("make stage: %v", err)
	}
	tb.Cleanup(func() { os.RemoveAll(s.Dir) })
	// The agent may run without root.
	if err := os.Chmod(s.Dir, 0o755); err != nil {
		tb.Fatalf("make stage: %v", err)
	}
	s.ConfigPath = filepath.Join(s.Dir, "fairlead.yaml")
	s.RunDir = filepath.Join(s.Dir, "run")
	s.PinDir = filepath.Join(testenv.BPFFS(tb), "fairlead")
	s.Rig = testenv.NewRig(tb, o.RigOptions)
	tb.Cleanup(func() {
		// Lock files are outside of what goes away by itself.
		if _, err := os.Stat(s.PinDir); err == nil {
			leak.Note(tb, s.PinDir)
			s.Loader("detach", "--grace", "0s")
		}
	})
	return s
}

// Links returns the balancer's interfaces as a YAML list.
func (s *Stage) Links() string {
	return "[" + strings.Join(append(append([]string{}, s.ClientLinks...), s.BackendLinks...), ", ") + "]"
}

// BackendList returns all backends as a YAML list, each with the port and, if
// there are weights, its weight.
func (s *Stage) BackendList(port int, weights ...int) string {
	rows := make([]string, len(s.BackendAddrs))
	for i, a := range s.BackendAddrs {
		rows[i] = fmt.Sprintf("{address: %s:%d}", a, port)
		if i < len(weights) {
			rows[i] = fmt.Sprintf("{address: %s:%d, weight: %d}", a, port, weights[i])
		}
	}
	return "[" + strings.Join(rows, ", ") + "]"
}

// BackendList6 is [Stage.BackendList] of their IPv6 addresses.
func (s *Stage) BackendList6(port int) string {
	rows := make([]string, len(s.BackendAddrs))
	for i, a := range s.BackendAddrs {
		rows[i] = fmt.Sprintf("{address: '[%s]:%d'}", testenv.Six(a), port)
	}
	return "[" + strings.Join(rows, ", ") + "]"
}

// Configure writes the configuration file, in one step.
func (s *Stage) Configure(format string, args ...any) {
	s.tb.Helper()
	next := s.ConfigPath + ".next"
	err := os.WriteFile(next, fmt.Appendf(nil, format, args...), 0o644)
	if err == nil {
		err = os.Rename(next, s.ConfigPath)
	}
	if err != nil {
		s.tb.Fatalf("write configuration: %v", err)
	}
}

// Serve starts a dummyserver on every backend, with the backend's name as its
// message, and waits until all listen.
func (s *Stage) Serve(port int) {
	s.tb.Helper()
	s.Servers = make([]*Process, len(s.Backends))
	for i, h := range s.Backends {
		s.Servers[i] = s.Start(h, s.programs.Dummyserver, "--port", fmt.Sprint(port), "--message", h.Name)
	}
	for _, p := range s.Servers {
		p.AwaitOutput("listens on port")
	}
}

// Loader runs loader on the balancer, with the stage's configuration and pins.
func (s *Stage) Loader(args ...string) Result {
	s.tb.Helper()
	return s.Run(s.Balancer, s.programs.Loader, args...)
}

// Fairlead runs fairlead on the balancer, for verbs that end by themselves.
func (s *Stage) Fairlead(args ...string) Result {
	s.tb.Helper()
	return s.Run(s.Balancer, s.programs.Fairlead, args...)
}

// StartAgent starts fairlead run on the balancer and waits until it is ready.
func (s *Stage) StartAgent(args ...string) *Process {
	s.tb.Helper()
	p := s.Start(s.Balancer, s.programs.Fairlead, append([]string{"run"}, args...)...)
	p.AwaitOutput("msg=ready")
	s.AwaitView("the agent's view", func(v *view.View) bool { return v.PID == p.PID() })
	return p
}

// View returns what the agent publishes.
func (s *Stage) View() (view.View, error) { return view.Read(s.RunDir) }

// AwaitView waits until what the agent publishes is as wanted.
func (s *Stage) AwaitView(what string, good func(*view.View) bool) view.View {
	s.tb.Helper()
	var v view.View
	Await(s.tb, what, func() error {
		var err error
		if v, err = s.View(); err == nil && !good(&v) {
			err = fmt.Errorf("the view is %+v", v)
		}
		return err
	})
	return v
}

// AwaitHealth waits until agent and kernel count a backend of every service as
// up or down. It returns the view that says so.
func (s *Stage) AwaitHealth(backend int, up bool) view.View {
	s.tb.Helper()
	what := fmt.Sprintf("health of backend %d to be up=%v", backend, up)
	return s.AwaitView(what, func(v *view.View) bool {
		for i := range v.Services {
			if b := v.Services[i].Backends[backend]; b.Up != up || !b.Known {
				return false
			}
		}
		return v.PinDir == "" || s.inKernel(v, backend, up)
	})
}

// inKernel reports whether the kernel has a backend of every service up or
// down.
func (s *Stage) inKernel(v *view.View, backend int, up bool) bool {
	s.tb.Helper()
	rows := s.BackendRows()
	for i := range v.Services {
		sv := &v.Services[i]
		if !slices.ContainsFunc(rows, func(r BackendRow) bool {
			return r.Service == sv.Name && r.Address == sv.Backends[backend].Address && (r.State != "down") == up
		}) {
			return false
		}
	}
	return true
}

// Await is [testenv.AwaitNil].
func Await(tb testenv.TB, what string, try func() error) {
	tb.Helper()
	testenv.AwaitNil(tb, what, try)
}
