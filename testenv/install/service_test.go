package install

import (
	"errors"
	"fmt"
	"net"
	"os"
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

// A service runs agents as the unit has it, as far as no service manager is needed for
// that, with a BPF file system and a /run of their own. The stage's directory is
// /mnt/conf there: /tmp is open to a sandboxed agent. /mnt/secret is not, though every
// user may read it.
type service struct {
	*stage.Stage
	t     *testing.T
	place *stage.Process // has the file systems
	agent *stage.Process
	env   []string // of agents, besides
}

// newService raises a stage with servers on port 8080, and two backends.
func newService(t *testing.T) *service {
	t.Helper()
	s := &service{Stage: stage.New(t, stage.Options{RigOptions: testenv.RigOptions{Backends: 2}, Programs: programs}), t: t}
	s.PinDir, s.RunDir = "/sys/fs/bpf/fairlead/main", "/run/fairlead"
	s.Serve(8080)
	s.place = s.Start(s.Balancer, "unshare", "--mount", "--propagation", "private", "sh", "-c", s.prepare())
	s.place.AwaitOutput("prepared")
	return s
}

// prepare makes the file systems.
func (s *service) prepare() string {
	script := []string{
		"set -e",
		"mount -t tmpfs -o mode=0755 tmpfs /run",
		"mount -t tmpfs -o mode=0755 tmpfs /mnt",
		"install -d -o " + user + " -g " + user + " -m 0700 /mnt/state",
		"mkdir /mnt/conf && mount --bind " + s.Dir + " /mnt/conf",
		"echo precious >/mnt/secret && chmod 0644 /mnt/secret",
		"mount -t bpf -o mode=0700 bpf /sys/fs/bpf", // as systemd mounts it
	}
	return strings.Join(append(script,
		// ProtectKernelTunables and ReadWritePaths
		"mount --bind /proc/sys /proc/sys",
		"mount --bind /proc/sys/net /proc/sys/net",
		"mount -o remount,bind,ro /proc/sys",
		"echo prepared",
		"exec sleep infinity",
	), "\n")
}

// before is what a service manager does each time that it starts the agent.
func (s *service) before() string {
	s.t.Helper()
	script := []string{"set -e", "mkdir -p -m 0755 /run/fairlead", "chown -R " + user + ":" + user + " /run/fairlead"} // RuntimeDirectory
	asUser := strings.NewReplacer("-o fairlead -g fairlead", "-o "+user+" -g "+user, "fairlead:fairlead", user+":"+user)
	for _, line := range setting(s.t, "ExecStartPre") {
		command, ok := strings.CutPrefix(line, "+")
		if !ok {
			s.t.Fatalf("ExecStartPre=%s is not run by root", line)
		}
		script = append(script, asUser.Replace(command))
	}
	return strings.Join(script, "\n")
}

// inside returns a command that runs where the agent has its files.
func (s *service) inside(command ...string) []string {
	return append([]string{"--mount", "--target", fmt.Sprint(s.place.PID())}, command...)
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

// start starts an agent.
func (s *service) start(args ...string) {
	s.t.Helper()
	s.root("sh", "-c", s.before()).OK(s.t)
	run := append([]string{programs.Fairlead, "run", "--config", "/mnt/conf/fairlead.yaml"}, args...)
	cmd := s.Command("nsenter", s.inside(asService(s.t, run...)...)...)
	cmd.Env = append(append(cmd.Env, "FAIRLEAD_STATE_DIR=/mnt/state"), s.env...)
	s.agent = s.StartCommand(s.Balancer, cmd)
	s.agent.AwaitOutput("msg=ready")
}

// root runs a command as root.
func (s *service) root(command ...string) stage.Result {
	s.t.Helper()
	return s.Run(s.Balancer, "nsenter", s.inside(command...)...)
}

// logged waits until the agent has logged words so often.
func (s *service) logged(words string, n int) {
	s.t.Helper()
	stage.Await(s.t, words, func() error {
		if got := strings.Count(s.agent.Output(), words); got < n {
			return fmt.Errorf("logged %d times, want %d", got, n)
		}
		return nil
	})
}

// native waits until XDP forwards.
func (s *service) native() {
	s.t.Helper()
	stage.Await(s.t, "xdp", func() error {
		if r := s.root(programs.Fairlead, "status"); !strings.Contains(r.Stdout, "xdp-native") {
			return fmt.Errorf("%s%s", r.Stdout, r.Stderr)
		}
		return nil
	})
}

// served opens connections to a service, for which both backends answer.
func (s *service) served(url string) {
	s.t.Helper()
	stage.Await(s.t, "both backends", func() error {
		count, err := s.Spread(0, url, 10)
		if err == nil && len(count) != 2 {
			err = fmt.Errorf("answers came from %v", count)
		}
		return err
	})
}

// write puts a file beside the configuration, in one step.
func (s *service) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path+".next", []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		s.t.Fatal(err)
	}
}

// holds returns what a file of the agent's has.
func (s *service) holds(path string) string { return s.root("cat", path).Stdout }

// wantNoRefusal finds what the agent wanted to do, but may not.
func (s *service) wantNoRefusal() {
	s.t.Helper()
	for _, words := range []string{"operation not permitted", "permission denied", "level=ERROR"} {
		if strings.Contains(s.agent.Output(), words) {
			s.t.Errorf("the agent says: %s", words)
		}
	}
}

// supervise makes agents those of a service manager, and returns what waits until that is
// told a line.
func (s *service) supervise() (hears func(line string)) {
	s.t.Helper()
	path := filepath.Join(s.Dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if err := os.Chmod(path, 0o666); err != nil {
		s.t.Fatal(err)
	}
	s.env = append(s.env, "NOTIFY_SOCKET=/mnt/conf/notify", "WATCHDOG_USEC=200000")
	var told stage.Output
	go func() {
		var b [4096]byte
		for {
			n, err := c.Read(b[:])
			if err != nil {
				return
			}
			_, _ = told.Write(append(b[:n:n], '\n'))
		}
	}()
	return func(line string) {
		s.t.Helper()
		stage.Await(s.t, line, func() error {
			if got := told.String(); !strings.Contains(got, line+"\n") {
				return errors.New("told: " + got)
			}
			return nil
		})
	}
}
