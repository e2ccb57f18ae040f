package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// A badInput is a configuration with one mistake. The service of good is
// replaced, or what stands before it.
type badInput struct {
	name, head, service string
	field               string // of the mistake
	want                string // somewhere in its line
}

var badInputs = []badInput{
	{"unknown key", "", "- {name: web, listen: VIP:80, lissen: VIP:81, backends: BACKENDS}", "services[0].lissen", "unknown key"},
	{"bad address", "", "- {name: web, listen: 203.0.113.300:80, backends: BACKENDS}", "services[0].listen", "203.0.113.300"},
	{"duplicate service", "", "- {name: web, listen: VIP:80, backends: BACKENDS}\n  - {name: web, listen: VIP:81, backends: BACKENDS}", "services[1].name", "web"},
	{"two services that differ only in name", "", "- {name: web, listen: VIP:80, backends: BACKENDS}\n  - {name: www, listen: VIP:80, backends: BACKENDS}", "services[1].listen", "taken"},
	{"IPv6 backend", "", "- {name: web, listen: VIP:80, backends: [{address: '[2001:db8::1]:80'}]}", "services[0].backends[0].address", "IPv6"},
	{"port 0", "", "- {name: web, listen: VIP:0, backends: BACKENDS}", "services[0].listen", "port"},
	{"weight -1", "", "- {name: web, listen: VIP:80, backends: [{address: 10.2.1.2:80, weight: -1}]}", "services[0].backends[0].weight", "-1"},
	{"no backends", "", "- {name: web, listen: VIP:80, backends: []}", "services[0].backends", ""},
	{"unknown interface", "interfaces: [nosuch0]", "- {name: web, listen: VIP:80, backends: BACKENDS}", "interfaces[0]", "nosuch0"},
	{"interval shorter than timeout", "", "- {name: web, listen: VIP:80, backends: BACKENDS, health: {type: tcp, interval: 1s, timeout: 2s}}", "services[0].health.interval", "timeout"},
	{"value that is not built yet", "", "- {name: web, listen: VIP:80, forward: gue, backends: BACKENDS}", "services[0].forward", "not supported by this version"},
}

func (b badInput) configure(s *stage.Stage) {
	head := b.head
	if head == "" {
		head = "interfaces: " + s.Links()
	}
	r := strings.NewReplacer("VIP", vip, "BACKENDS", s.BackendList(8080))
	s.Configure("%s\nservices:\n  %s\n", head, r.Replace(b.service))
}

// TestBadInput gives each mistake to every program that reads a configuration,
// with a datapath attached that must not change.
func TestBadInput(t *testing.T) {
	s := attached(t, testenv.RigOptions{})
	before := kernelState(t, s)
	for _, c := range badInputs {
		t.Run(c.name, func(t *testing.T) {
			c.configure(s)
			line := regexp.MustCompile(`^[a-z]+: ` + regexp.QuoteMeta(s.ConfigPath) + `:\d+:\d+: ` + regexp.QuoteMeta(c.field) + `: [^\n]+\n$`)
			for _, r := range []stage.Result{s.Loader("attach"), s.Fairlead("check"), s.Fairlead("run")} {
				if r.Code != 2 || !line.MatchString(r.Stderr) || !strings.Contains(r.Stderr, c.want) {
					t.Errorf("%s: status %d, want 2, and one line with file, line, %s and %q; it printed:\n%s%s",
						r.Command, r.Code, c.field, c.want, r.Stdout, r.Stderr)
				}
			}
		})
	}
	if diff := cmp.Diff(before, kernelState(t, s)); diff != "" {
		t.Errorf("the kernel has changed (-before +after):\n%s", diff)
	}
	if _, err := s.Get(0, web); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// A reload that is refused changes nothing and says why.
func TestBadReload(t *testing.T) {
	s, agent := checked(t)
	before := s.ServiceRows()
	badInputs[0].configure(s)
	agent.Signal(syscall.SIGHUP)
	v := s.AwaitView("the refusal", func(v *view.View) bool { return v.ConfigError != "" })
	if !strings.Contains(v.ConfigError, "services[0].lissen: unknown key") {
		t.Errorf("the view says %q", v.ConfigError)
	}
	if diff := cmp.Diff(before, s.ServiceRows()); diff != "" {
		t.Errorf("the services have changed (-before +after):\n%s", diff)
	}
	s.Configure(checks, s.Links(), vip, s.BackendList(8080, 1, 0, 0))
	agent.Signal(syscall.SIGHUP)
	s.AwaitView("the new configuration", func(v *view.View) bool { return v.ConfigError == "" })
	wantSpread(t, s, web, 10, map[string]int{"backend1": 10})
}

func TestUnfitHosts(t *testing.T) {
	s := newStage(t, testenv.RigOptions{Backends: 1})
	configure(s, "")
	asRoot := func(args ...string) *exec.Cmd { return s.Command(programs.Loader, args...) }
	unprivileged := asRoot("attach")
	unprivileged.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	for _, c := range []struct {
		name, want string
		cmd        *exec.Cmd
		code       int
	}{
		{"not root", "run as root", unprivileged, 1},
		{"no bpffs", "BPF file system", asRoot("attach", "--pin-dir", s.Dir+"/pins"), 2},
		{"no native XDP", "native", asRoot("attach", "--mode", "native", "--interface", "lo"), 3},
		{"nothing attached", "not attached", asRoot("detach"), 1},
		{"flag that is none", "did you mean --config?", asRoot("attach", "--confog", "x"), 2},
		{"verb that is none", "did you mean attach?", asRoot("atach"), 2},
	} {
		r := s.RunCommand(s.Balancer, c.cmd)
		if r.Code != c.code || strings.Count(r.Stderr, "\n") != 1 || !strings.Contains(r.Stderr, c.want) {
			t.Errorf("%s: %s: status %d, want %d, and one line with %q in:\n%s", c.name, r.Command, r.Code, c.code, c.want, r.Stderr)
		}
	}
	if _, err := os.Stat(s.PinDir); err == nil {
		t.Errorf("%s was made", s.PinDir)
	}
}

// kernelState returns what the kernel holds, without counters.
func kernelState(t *testing.T, s *stage.Stage) string {
	t.Helper()
	var b strings.Builder
	for _, v := range s.ServiceRows() {
		fmt.Fprintln(&b, v.Name, v.Listen, v.Protocol, v.Rung, v.Local, v.Slots)
	}
	for _, v := range s.BackendRows() {
		fmt.Fprintln(&b, v.Service, v.Address, v.State, v.Weight, v.Slots)
	}
	b.WriteString(hostState(t, s))
	return b.String()
}
