package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// nobody is a user without any privilege.
const nobody = 65534

// off writes a configuration that leaves everything to the proxy.
func off(s *stage.Stage, listen string) {
	s.Configure(`
xdp: off
services:
  - {name: web, listen: %s, backends: %s}
  - {name: echo, listen: %s, protocol: udp, backends: %s}
`, listen, s.BackendList(8080), listen, s.BackendList(8080))
}

func TestProxyAsRoot(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	off(s, vip+":80")
	agent := s.StartAgent()
	wantProxied(t, s, vip+":80")
	if code := agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with status %d", code)
	}
	if _, err := s.Get(0, web); err == nil {
		t.Error("without the agent somebody answers")
	}
}

func TestProxyWithoutRoot(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	own := s.ClientAddrs[0].Prev().String() // the balancer's
	off(s, own+":8081")
	giveRunDir(t, s)
	agent := s.StartCommand(s.Balancer, asNobody(s, "run"))
	agent.AwaitOutput("msg=ready")
	wantProxied(t, s, own+":8081")
	if code := agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with status %d", code)
	}
}

func TestProxyWithoutRootSaysWhatIsMissing(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	giveRunDir(t, s)
	for _, c := range []struct{ listen, want string }{
		{vip + ":8081", "ip address add " + vip + "/32 dev lo"},
		{s.ClientAddrs[0].Prev().String() + ":80", "ports below 1024 need root or CAP_NET_BIND_SERVICE"},
	} {
		off(s, c.listen)
		r := s.RunCommand(s.Balancer, asNobody(s, "run"))
		if r.Code == 0 || !strings.Contains(r.Stderr, "fairlead: ") || !strings.Contains(r.Stderr, c.want) {
			t.Errorf("%s: status %d, want a line with %q in:\n%s", c.listen, r.Code, c.want, r.Stderr)
		}
	}
}

func TestXDPWithoutRootIsRefused(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	configure(s, "")
	giveRunDir(t, s)
	for _, program := range []string{programs.Fairlead + " run", programs.Loader + " attach"} {
		words := strings.Fields(program)
		cmd := s.Command(words[0], words[1:]...)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		r := s.RunCommand(s.Balancer, cmd)
		if last := lastLine(r.Stderr); r.Code == 0 || !strings.Contains(last, "run as root") {
			t.Errorf("%s: status %d, want advice to run as root in its last line:\n%s", program, r.Code, r.Stderr)
		}
	}
}

func lastLine(text string) string {
	text = strings.TrimSuffix(text, "\n")
	return text[strings.LastIndexByte(text, '\n')+1:]
}

func asNobody(s *stage.Stage, args ...string) *exec.Cmd {
	cmd := s.Command(programs.Fairlead, args...)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	return cmd
}

// giveRunDir lets nobody write status.json, and keep a state.
func giveRunDir(t *testing.T, s *stage.Stage) {
	t.Helper()
	for _, dir := range []string{s.RunDir, filepath.Join(s.Dir, "state")} {
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, nobody, nobody)); err != nil {
			t.Fatal(err)
		}
	}
}

// wantProxied asserts that the proxy serves TCP and UDP and says so.
func wantProxied(t *testing.T, s *stage.Stage, listen string) {
	t.Helper()
	s.AwaitView("first health", func(v *view.View) bool { // the first result starts a new round
		return !slices.ContainsFunc(v.Services[0].Backends, func(b view.Backend) bool { return !b.Known })
	})
	count, err := s.Spread(0, "http://"+listen+"/", 30)
	if err != nil || count["backend1"] != 10 || count["backend2"] != 10 || count["backend3"] != 10 {
		t.Errorf("30 requests were answered by %v: %v", count, err)
	}
	if _, seen, err := s.Echo(0, 0, listen, "hello"); err != nil || seen.Addr() == s.ClientAddrs[0] {
		t.Errorf("echo of a datagram that backends see from %s: %v", seen, err)
	}
	v := s.AwaitView("the proxy's counts", func(v *view.View) bool {
		return v.Proxy.TCP.Accepted == 30 && v.Proxy.UDP.ToClients == 1
	})
	for i := range v.Services {
		if sv := &v.Services[i]; sv.Rung != view.RungProxy || sv.Reason != "xdp: off" {
			t.Errorf("service %s is on the rung %s: %q", sv.Name, sv.Rung, sv.Reason)
		}
	}
}
