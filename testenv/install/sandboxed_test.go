package install

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"fairlead/testenv/stage"
	"fairlead/testenv/testca"
)

const website = "http://" + vip + "/"

// TestServiceRunsWithoutRoot has an agent of the unit's user, with the unit's
// capabilities, attach, end, be killed, switch forwarding on and leave nothing.
func TestServiceRunsWithoutRoot(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Balancer.Sysctl(t, "net.ipv4.tcp_syncookies", "2")
	s.Balancer.Sysctl(t, "net.ipv4.conf.client1.forwarding", "0")
	s.Configure("interfaces: %s\nservices: [{name: web, listen: '%s:80', syn-cookies: {above: 1000}, backends: %s, health: {type: tcp, interval: 200ms}}]\n",
		s.Links(), vip, s.BackendList(8080))
	s.start("--set-sysctl")
	s.native()
	s.served(website)
	s.agent.Kill()
	s.served(website)

	s.start("--set-sysctl", "--detach-on-exit", "--grace", "0s")
	s.native()
	s.served(website)
	if code := s.agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the agent ended with status %d", code)
	}
	s.wantNoRefusal()
	if left := s.root("find", "/sys/fs/bpf/fairlead", "-mindepth", "1").OK(t); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	if got := s.root("cat", "/proc/sys/net/ipv4/conf/client1/forwarding").OK(t); got != "0\n" {
		t.Errorf("forwarding is %q again, want 0", got)
	}
}

// TestRootCommandsBesideTheService has root take out and put in again what the agent of
// another user must go on with.
func TestRootCommandsBesideTheService(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Configure("interfaces: %s\nservices: [{name: web, listen: '%s:80', backends: %s}]\n", s.Links(), vip, s.BackendList(8080))
	s.start()
	s.native()
	s.root(programs.Loader, "detach", "--interface", "client1").OK(t)
	s.logged("interface taken out by a command", 1)
	s.root(programs.Loader, "attach", "--config", "/mnt/conf/fairlead.yaml").OK(t)
	s.logged("interface attached by a command", 1)
	s.root(programs.Loader, "detach", "--grace", "0s").OK(t)
	s.agent.Signal(syscall.SIGHUP)
	s.logged("configuration taken", 1)
	s.native()
	s.served(website)
	if code := s.agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the agent ended with status %d", code)
	}
	// Root was first: what it pins is the agent's.
	s.root(programs.Loader, "detach", "--grace", "0s").OK(t)
	s.root(programs.Loader, "attach", "--config", "/mnt/conf/fairlead.yaml").OK(t)
	s.start()
	s.native()
	s.served(website)
}

// issue writes a certificate that the agent may read.
func issue(t *testing.T, ca *testca.CA, leaf testca.Leaf) {
	t.Helper()
	ca.Issue(leaf)
	if err := errors.Join(os.Chmod(leaf.Cert, 0o644), os.Chmod(leaf.Key, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// TestSandboxedAgentGoesOn has a sandboxed agent do what it may have to do after its
// start: open listeners and files that it did not know, run commands, attach again.
func TestSandboxedAgentGoesOn(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ca := testca.New(t)
	leaf := testca.Leaf{Names: []string{vip}, Cert: filepath.Join(s.Dir, "cert.pem"), Key: filepath.Join(s.Dir, "key.pem")}
	issue(t, ca, leaf)
	tell := "cat /mnt/secret >/run/fairlead/secret; unshare --user true && echo out >>/run/fairlead/secret; echo $FAIRLEAD_STATE >/run/fairlead/told"
	s.Configure(`interfaces: %s
include: more*.yaml
notify: [{command: [/bin/sh, -c, '%s']}]
services:
  - {name: web, listen: '%s:80', backends: %s, health: {type: tcp, interval: 200ms, timeout: 200ms, rise: 1, fall: 1}}
  - {name: safe, listen: '%s:443', forward: http, tls: {certificates: [{cert: cert.pem, key: key.pem}]}, backends: %s}
`, s.Links(), tell, vip, s.BackendList(8080), vip, s.BackendList(8080))
	told := s.supervise()
	s.start()
	s.logged(`msg="sandboxed: `, 1)
	for _, words := range []string{"READY=1", "STATUS=2 services, xdp on", "WATCHDOG=1"} {
		told(words)
	}
	s.native()
	s.served(website)

	s.write("more.yaml", "services: [{name: more, listen: '"+vip+":81', forward: proxy, backends: "+s.BackendList(8080)+"}]\n")
	s.agent.Signal(syscall.SIGHUP)
	s.logged("configuration taken", 1)
	s.served("http://" + vip + ":81/")
	line := "echo " + s.BackendAddrs[0].String() + ":8080 | nc -U /run/fairlead/pool/more.sock"
	if got := s.root("sh", "-c", line).OK(t); got != "ok\n" {
		t.Errorf("a line to the socket of a new pool gets %q", got)
	}

	s.root("rm", "/sys/fs/bpf/fairlead/main/link-client1").OK(t)
	s.logged("xdp is on again", 1)
	s.native()

	issue(t, ca, leaf)
	s.logged("certificates taken", 1)

	s.Servers[1].Kill()
	stage.Await(t, "the command", func() error {
		if got := s.holds("/run/fairlead/told"); got != "down\n" {
			return errors.New("told " + got)
		}
		return nil
	})
	if got := s.holds("/run/fairlead/secret"); got != "" {
		t.Errorf("a command got out of the sandbox: %q", got)
	}
	s.wantNoRefusal()

	s.write("more.yaml", "services: [{name: 'file:/mnt/secret', listen: '"+vip+":81', backends: "+s.BackendList(8080)+"}]\n")
	s.agent.Signal(syscall.SIGHUP)
	s.logged("/mnt/secret: permission denied", 1)

}
