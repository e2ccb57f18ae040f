package install

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// A machine is a Debian that is this one, but forgets what is changed. It has a service
// manager that only notes what it is told, in /run/told, and says that a service is active if there
// is /run/active, and one interface, d0.
type machine struct {
	t     *testing.T
	host  *testenv.Host
	root  string
	enter []string // what a command begins with that runs there
}

// makeRoot makes the machine's file systems, in the directory $1.
const makeRoot = `set -e
ip link add d0 type veth peer name d1 && ip link set d0 up && ip link set d1 up
base=$(dirname "$1")
mount -t tmpfs tmpfs "$base" && mkdir "$1" "$base/upper" "$base/work"
mount -t overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" overlay "$1"
cd "$1"
mount -t proc proc proc && mount -t tmpfs tmpfs run && mount -t tmpfs tmpfs tmp
mount -t sysfs sysfs sys && mount -t bpf -o mode=0700 bpf sys/fs/bpf
rm -f usr/sbin/policy-rc.d
`

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, host: testenv.NewHost(t, "machine"), root: filepath.Join(t.TempDir(), "root")}
	const script = makeRoot + `mkdir -p run/systemd/system
printf '#!/bin/sh\necho "$*" >>/run/told\ncase "$*" in *is-active*) test -e /run/active ;; esac\n' >usr/local/sbin/systemctl && chmod 755 usr/local/sbin/systemctl
echo made
exec sleep infinity`
	var out stage.Output
	place := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", m.root)
	place.Stdout, place.Stderr = &out, &out
	m.host.Start(t, place)
	m.enter = []string{"nsenter", "--mount", "--target", fmt.Sprint(place.Process.Pid)}
	stage.Await(t, "the machine", func() error {
		if out.String() != "made\n" {
			return fmt.Errorf("said %s", out.String())
		}
		return nil
	})
	return m
}

// try runs a command.
func (m *machine) try(command ...string) (out string, err error) {
	line := slices.Concat(m.enter, []string{"chroot", m.root}, command)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	all, err := m.host.CombinedOutput(cmd)
	return string(all), err
}

// run is try of what must work.
func (m *machine) run(command ...string) string {
	m.t.Helper()
	out, err := m.try(command...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return out
}

// dpkg has it do something with a package that is given as a file, or named.
func (m *machine) dpkg(what, of string) {
	m.t.Helper()
	if strings.HasPrefix(of, "/") {
		text, err := os.ReadFile(of)
		if err != nil {
			m.t.Fatal(err)
		}
		of = "/tmp/fairlead.deb"
		m.put(of, text)
	}
	if out := m.run("dpkg", what, of); strings.Contains(out, "warning") {
		m.t.Errorf("dpkg %s %s:\n%s", what, of, out)
	}
}

func (m *machine) put(path string, text []byte) {
	m.t.Helper()
	cmd := exec.Command(m.enter[0], append(m.enter[1:], "tee", filepath.Join(m.root, path))...)
	cmd.Stdin = bytes.NewReader(text)
	if err := m.host.Run(cmd); err != nil {
		m.t.Fatal(err)
	}
}

// told returns what the service manager was told since the last call.
func (m *machine) told() string {
	m.t.Helper()
	out, _ := m.try("cat", "/run/told")
	m.run("rm", "-f", "/run/told")
	return out
}

func (m *machine) wantPaths(there bool, paths ...string) {
	m.t.Helper()
	for _, p := range paths {
		if _, err := m.try("test", "-e", p); (err == nil) != there {
			m.t.Errorf("%s is there: %t, want %t", p, err == nil, there)
		}
	}
}

// makePackage makes a package of a version.
func makePackage(t *testing.T, version string) (path string) {
	t.Helper()
	arch, err := exec.Command("dpkg", "--print-architecture").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("../../scripts/package.sh", t.TempDir(), strings.TrimSpace(string(arch)))
	cmd.Env = append(os.Environ(), "PROGRAMS="+filepath.Dir(programs.Fairlead), "VERSION="+version, "COMPRESSION=none", "SOURCE_DATE_EPOCH=1790000000", "MAINTAINER="+maintainer)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

const maintainer = "Ann Admin <ann@example.org>"

// TestAPackageSaysWhoMadeIt, or its builder hears that nobody is named. No program is
// built for that: there is nothing to pack.
func TestAPackageSaysWhoMadeIt(t *testing.T) {
	testenv.RequireRoot(t) // who has built the programs
	if got, err := exec.Command("dpkg-deb", "--field", makePackage(t, "v1.2"), "Maintainer").Output(); err != nil || string(got) != maintainer+"\n" {
		t.Errorf("the maintainer is %q, error %v", got, err)
	}
	for is, want := range map[string]string{
		"":    "package: nobody can be written to about this package: give MAINTAINER='Name <address>'\n",
		"Ann": "package: MAINTAINER is 'Ann', want 'Name <address>'\n",
	} {
		cmd := exec.Command("../../scripts/package.sh", t.TempDir(), "none")
		cmd.Env = append(os.Environ(), "PROGRAMS=/nonexistent", "VERSION=v1.2", "MAINTAINER="+is)
		if got, err := cmd.CombinedOutput(); err == nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("MAINTAINER=%q: %s, error %v; want %s", is, got, err, want)
		}
	}
}

// TestLintianFindsNothing has Debian's own judge look at the package, which takes more
// than 20 s with the 128 packages that it needs. The programs of the tests are not
// stripped, nor is theirs compressed; make package does both.
func TestLintianFindsNothing(t *testing.T) {
	if os.Getenv("FAIRLEAD_SLOW") == "" {
		t.Skip("needs lintian, which is installed for FAIRLEAD_SLOW=1")
	}
	testenv.RequireRoot(t) // who has built the programs
	cmd := exec.Command("lintian", "--no-cfg", "--allow-root", "--fail-on", "error,warning",
		"--suppress-tags", "unstripped-binary-or-object,uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball", makePackage(t, "v1.2"))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPackage installs, upgrades, removes and purges the package.
func TestPackage(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.dpkg("--install", makePackage(t, "v1.2"))
	if got := m.told(); strings.Contains(got, "start fairlead") || strings.Contains(got, "enable") {
		t.Errorf("an installation starts something: %s", got)
	}
	m.wantPaths(true, "/usr/bin/fairlead", "/usr/bin/loader", "/usr/lib/systemd/system/fairlead.service")
	for _, p := range []string{"fairlead", "loader"} {
		m.wantPaths(true, "/usr/share/man/man8/"+p+".8.gz", "/usr/share/bash-completion/completions/"+p,
			"/usr/share/zsh/vendor-completions/_"+p, "/usr/share/fish/vendor_completions.d/"+p+".fish")
	}
	if got := m.run("stat", "-c", "%U:%G %a", "/etc/fairlead"); got != "root:fairlead 750\n" {
		t.Errorf("/etc/fairlead is %s", got)
	}
	if out := m.run("sh", "-c", "dpkg --audit; dpkg --verify fairlead; fairlead check --config /etc/fairlead/fairlead.yaml"); !strings.Contains(out, "good") {
		t.Errorf("the package, or its configuration, is not in order: %s", out)
	}

	own := "interfaces: [d0]\nservices: [{name: web, listen: '203.0.113.10:80', backends: [{address: '10.2.1.2:8080'}]}]\n"
	m.put("/etc/fairlead/fairlead.yaml", []byte(own))
	m.run("loader", "attach", "--set-sysctl", "--config", "/etc/fairlead/fairlead.yaml")
	m.run("mkdir", "-p", "/var/lib/fairlead", "/var/log/fairlead")
	m.run("touch", "/run/active")
	m.dpkg("--install", makePackage(t, "v1.2-3-gabcdef0"))
	if got := m.told(); !strings.Contains(got, "restart fairlead.service") || strings.Contains(got, "stop ") {
		t.Errorf("an upgrade tells the service manager: %s", got)
	}
	if got := m.run("cat", "/etc/fairlead/fairlead.yaml"); got != own {
		t.Errorf("an upgrade changes the configuration: %s", got)
	}
	if got := m.run("dpkg-query", "-W", "-f", "${Version}", "fairlead"); got != "1.2+3.gabcdef0" {
		t.Errorf("the version is %s", got)
	}
	m.wantPaths(true, "/sys/fs/bpf/fairlead/main/program")

	m.dpkg("--remove", "fairlead")
	if got := m.told(); !strings.Contains(got, "stop fairlead.service") {
		t.Errorf("a removal tells the service manager: %s", got)
	}
	m.wantPaths(false, "/usr/bin/fairlead", "/usr/bin/loader", "/sys/fs/bpf/fairlead/main", "/usr/lib/systemd/system/fairlead.service")
	if got := m.run("ip", "address"); strings.Contains(got, "xdp") || strings.Contains(got, "203.0.113.10") {
		t.Errorf("a removal leaves something: %s", got)
	}
	m.wantPaths(true, "/etc/fairlead/fairlead.yaml", "/var/lib/fairlead")

	m.run("mkdir", "-p", "/sys/fs/bpf/fairlead/rest")
	m.dpkg("--purge", "fairlead")
	m.wantPaths(false, "/etc/fairlead", "/var/lib/fairlead", "/var/log/fairlead", "/sys/fs/bpf/fairlead", "/usr/share/doc/fairlead")
}

func TestPackageIsTheSameAgain(t *testing.T) {
	testenv.RequireRoot(t) // who has built the programs
	var last []byte
	for _, umask := range []int{0o077, 0o022} {
		old := syscall.Umask(umask)
		path := makePackage(t, "v1.2")
		syscall.Umask(old)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if last != nil && !bytes.Equal(text, last) {
			t.Error("two packages of one source differ")
		}
		last = text
	}
}

// TestPackageMakesItsUser has the user made by each of the tools of which a Debian has
// one at least.
func TestPackageMakesItsUser(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.dpkg("--install", makePackage(t, "v1.2"))
	for _, next := range []string{"systemd-sysusers", "adduser", "useradd"} {
		user := strings.Split(m.run("getent", "passwd", "fairlead"), ":")
		if len(user) != 7 || user[5] != "/var/lib/fairlead" || user[6] != "/usr/sbin/nologin\n" {
			t.Errorf("before %s is gone: %q", next, user)
		}
		if next == "useradd" {
			break // nobody would be left
		}
		m.run("userdel", "fairlead")
		m.run("sh", "-c", "rm $(command -v "+next+")")
		m.run("/var/lib/dpkg/info/fairlead.postinst", "configure", "1.2")
	}
}
