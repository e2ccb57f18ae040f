package install

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

const vip = "203.0.113.10"

// user is whom the tests have in the place of the unit's user, who is not on this
// machine.
const user = "4242"

// A service is an agent that runs as the unit has it, as far as no service manager
// is needed for that, with a BPF file system and a /run of its own.
type service struct {
	*stage.Stage
	t     *testing.T
	agent *stage.Process
}

// prepare is what a service manager does before it starts the agent.
func prepare(t *testing.T) string {
	t.Helper()
	script := []string{
		"set -e",
		"mount -t tmpfs -o mode=0755 tmpfs /run",
		"mount -t bpf -o mode=0700 bpf /sys/fs/bpf", // as systemd mounts it
	}
	asUser := strings.NewReplacer("-o fairlead -g fairlead", "-o "+user+" -g "+user, "fairlead:fairlead", user+":"+user)
	for _, line := range setting(t, "ExecStartPre") {
		command, ok := strings.CutPrefix(line, "+")
		if !ok {
			t.Fatalf("ExecStartPre=%s is not run by root", line)
		}
		script = append(script, asUser.Replace(command))
	}
	return strings.Join(append(script,
		"install -d -o "+user+" -g "+user+" -m 0755 /run/fairlead",
		// ProtectKernelTunables and ReadWritePaths
		"mount --bind /proc/sys /proc/sys",
		"mount --bind /proc/sys/net /proc/sys/net",
		"mount -o remount,bind,ro /proc/sys",
		`exec "$@"`,
	), "\n")
}

// asService returns how a command is run as the unit runs it.
func asService(t *testing.T, command ...string) []string {
	t.Helper()
	var caps []string
	for c := range strings.FieldsSeq(setting(t, "AmbientCapabilities")[0]) {
		caps = append(caps, "+"+strings.ToLower(strings.TrimPrefix(c, "CAP_")))
	}
	only := "-all," + strings.Join(caps, ",")
	return append([]string{"setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--no-new-privs",
		"--bounding-set", only, "--inh-caps", only, "--ambient-caps", only}, command...)
}

// newService raises a stage with servers on port 8080.
func newService(t *testing.T) *service {
	t.Helper()
	s := &service{Stage: stage.New(t, stage.Options{RigOptions: testenv.RigOptions{Backends: 2}, Programs: programs}), t: t}
	s.PinDir, s.RunDir = "/sys/fs/bpf/fairlead/main", "/run/fairlead"
	s.Serve(8080)
	return s
}

// start starts the agent.
func (s *service) start(args ...string) {
	s.t.Helper()
	run := asService(s.t, append([]string{programs.Fairlead, "run"}, args...)...)
	s.agent = s.Start(s.Balancer, "unshare", append([]string{"--mount", "--propagation", "private", "sh", "-c", prepare(s.t), "sh"}, run...)...)
	s.agent.AwaitOutput("msg=ready")
}

// root runs a command as root where the agent has its files.
func (s *service) root(command ...string) stage.Result {
	s.t.Helper()
	return s.Run(s.Balancer, "nsenter", append([]string{"--mount", "--target", fmt.Sprint(s.agent.PID())}, command...)...)
}

// status waits until fairlead status says so.
func (s *service) status(words string) {
	s.t.Helper()
	stage.Await(s.t, "status "+words, func() error {
		if r := s.root(programs.Fairlead, "status"); !strings.Contains(r.Stdout, words) {
			return fmt.Errorf("%s%s", r.Stdout, r.Stderr)
		}
		return nil
	})
}

func (s *service) spread(n int) {
	s.t.Helper()
	count, err := s.Spread(0, "http://"+vip+"/", n)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(count) != 2 {
		s.t.Errorf("answers came from %v, want both backends", count)
	}
}

// TestServiceRunsWithoutRoot has the agent attach, check, proxy and come back as the
// unit's user with the unit's capabilities.
func TestServiceRunsWithoutRoot(t *testing.T) {
	s := newService(t)
	s.Configure("interfaces: %s\nservices: [{name: web, listen: '%s:80', syn-cookies: {above: 1000}, backends: %s, health: {type: tcp, interval: 200ms}}]\n",
		s.Links(), vip, s.BackendList(8080))
	s.Balancer.Sysctl(t, "net.ipv4.tcp_syncookies", "2")
	s.start("--config", s.ConfigPath)
	s.status("native")
	s.spread(20)
	_ = filepath.Join
	_ = exec.Command
	t.Log(s.root(programs.Fairlead, "status").Stdout)
	t.Log(s.agent.Output())
}
