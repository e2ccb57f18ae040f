package install

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// boot makes a machine whose service manager is systemd itself, the first process of a
// namespace, and runs nothing but journald. What it could change of this machine is
// read-only, or not there. $2 names its control group.
const boot = makeRoot + `mount -t tmpfs tmpfs dev && mkdir dev/pts dev/shm && mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for name in null zero full random urandom tty; do : >dev/$name; mount --bind /dev/$name dev/$name; done
mount --bind proc/sys proc/sys && mount --bind proc/sys/net proc/sys/net && mount -o remount,bind,ro proc/sys
rm -rf etc/systemd/system/* usr/lib/systemd/system/*.wants usr/lib/systemd/system-generators/*
printf '[Unit]\nWants=systemd-journald.service\n' >etc/systemd/system/test.target
mount -t cgroup2 cgroup2 sys/fs/cgroup && mkdir "sys/fs/cgroup/$2" && echo $$ >"sys/fs/cgroup/$2/cgroup.procs" && umount sys/fs/cgroup
echo made
exec unshare --cgroup sh -c 'mount -t cgroup2 cgroup2 sys/fs/cgroup && exec chroot . env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=test.target'`

func newBooted(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, host: testenv.NewHost(t, "machine"), root: filepath.Join(t.TempDir(), "root")}
	group := fmt.Sprintf("fairlead-test-%d", os.Getpid())
	var out stage.Output
	place := exec.Command("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--uts", "--ipc", "sh", "-c", boot, "sh", m.root, group)
	place.Stdout, place.Stderr = &out, &out
	m.host.Start(t, place)
	var first int
	stage.Await(t, "the first process", func() error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", place.Process.Pid))
		if err == nil {
			_, err = fmt.Sscan(string(children), &first)
		}
		return err
	})
	t.Cleanup(func() {
		_ = syscall.Kill(first, syscall.SIGKILL) // and all others with it
		_ = place.Wait()
		removeGroup(t, group)
	})
	m.enter = []string{"nsenter", "--mount", "--pid", "--target", fmt.Sprint(first)}
	stage.Await(t, "systemd", func() error {
		state, err := m.try("systemctl", "is-system-running")
		if state = strings.TrimSpace(state); state != "running" && state != "degraded" {
			err = fmt.Errorf("%s: %w; it said %s", state, errors.Join(err), out.String())
		} else {
			err = nil
		}
		return err
	})
	return m
}

// removeGroup removes a control group when its last process is gone.
func removeGroup(t *testing.T, name string) {
	t.Helper()
	const script = `mount -t cgroup2 cgroup2 "$1" && find "$1/$2" -depth -type d -exec rmdir {} +`
	dir := t.TempDir()
	stage.Await(t, "the end of "+name, func() error {
		out, err := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", dir, name).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

func (m *machine) mainPID() string {
	m.t.Helper()
	return strings.TrimSpace(m.run("systemctl", "show", "-P", "MainPID", "fairlead"))
}

// property waits until systemd says that of the service.
func (m *machine) property(name, want string) {
	m.t.Helper()
	stage.Await(m.t, name+" "+want, func() error {
		if got := strings.TrimSpace(m.run("systemctl", "show", "-P", name, "fairlead")); got != want {
			log, _ := m.try("journalctl", "--no-pager", "--unit", "fairlead")
			return fmt.Errorf("it is %s\n%s", got, log)
		}
		return nil
	})
}

// TestUnitUnderSystemd has systemd itself run the unit, with everything that it takes
// from the agent.
func TestUnitUnderSystemd(t *testing.T) {
	t.Parallel()
	m := newBooted(t)
	m.dpkg("--install", makePackage(t, "v1.2"))
	service := "{name: %s, listen: '203.0.113.10:%d', backends: [{address: '10.2.1.2:8080'}]}"
	config := "interfaces: [d0]\nservices: [" + fmt.Sprintf(service, "web", 80) + "]\n"
	m.put("/etc/fairlead/fairlead.yaml", []byte(config))
	m.put("/etc/default/fairlead", []byte("FAIRLEAD_SET_SYSCTL=1\n"))
	m.run("systemctl", "start", "fairlead")
	m.property("StatusText", "1 service, xdp on")
	status := m.run("cat", "/proc/"+m.mainPID()+"/status")
	// CAP_NET_BIND_SERVICE 10, CAP_NET_ADMIN 12, CAP_PERFMON 38, CAP_BPF 39
	for _, want := range []string{"CapEff:\t000000c000001400", "CapBnd:\t000000c000001400", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want+"\n") {
			t.Errorf("the agent has not %q:\n%s", want, status)
		}
	}
	if log := m.run("journalctl", "--no-pager", "--unit", "fairlead"); strings.Contains(log, "permitted") || strings.Contains(log, "denied") || !strings.Contains(log, "sandboxed: ") {
		t.Errorf("the agent lacks something:\n%s", log)
	}

	m.put("/etc/fairlead/fairlead.yaml", []byte(strings.Replace(config, "}]\n", "}, "+fmt.Sprintf(service, "more", 81)+"]\n", 1)))
	pid := m.mainPID()
	m.run("systemctl", "reload", "fairlead")
	m.property("StatusText", "2 services, xdp on")
	if m.mainPID() == pid {
		t.Errorf("process %s goes on after a reload", pid)
	}
	m.property("NFileDescriptorStore", "2")
	m.run("kill", "-KILL", m.mainPID())
	m.property("NRestarts", "1")
	m.property("StatusText", "2 services, xdp on")

	m.put("/etc/fairlead/fairlead.yaml", []byte("services: 7\n"))
	pid = m.mainPID()
	if out, err := m.try("systemctl", "reload", "fairlead"); err == nil {
		t.Errorf("a reload with a wrong configuration succeeds: %s", out)
	}
	if log := m.run("journalctl", "--no-pager", "--unit", "fairlead"); !strings.Contains(log, "fairlead.yaml:1:11: services") {
		t.Errorf("the journal does not say why the reload failed:\n%s", log)
	}
	m.property("StatusText", "2 services, xdp on")
	if m.mainPID() != pid {
		t.Error("a reload with a wrong configuration has replaced the agent")
	}
	if out, err := m.try("systemctl", "restart", "fairlead"); err == nil {
		t.Errorf("a wrong configuration starts: %s", out)
	}
	m.property("ExecMainStatus", "2")
	m.property("ActiveState", "failed")
	if got := m.run("ip", "link", "show", "d0"); !strings.Contains(got, "xdp") {
		t.Errorf("the kernel forwards no more: %s", got)
	}
}
