package peercred

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("PEERCRED_TEST_DIAL"); path != "" {
		dial(path)
	}
	leak.Each(m).Run()
}

// dial is what a child does: it connects, and waits until it is let go.
func dial(path string) {
	c, err := net.Dial("unix", path)
	if err != nil {
		os.Exit(3)
	}
	_, _ = c.Read(make([]byte, 1))
	os.Exit(0)
}

// listen returns a socket in a directory that everybody may enter.
func listen(t *testing.T, a Allowed) (*net.UnixListener, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "peercred")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.sock")
	l, err := Listen(path, a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := l.SetDeadline(time.Now().Add(time.Minute)); err != nil { // if nobody comes
		t.Fatal(err)
	}
	return l, path
}

// child returns a process of a user that connects to path.
func child(t *testing.T, path string, uid, gid uint32, groups ...uint32) *exec.Cmd {
	t.Helper()
	// The test's own program may be where the user must not go.
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(filepath.Dir(path), "child")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program)
	c.Env = []string{"PEERCRED_TEST_DIAL=" + path}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestThePeerIsWhoTheKernelSaysItIs(t *testing.T) {
	needRoot(t)
	many := make([]uint32, 100)
	for i := range many {
		many[i] = 5000 + uint32(i)
	}
	for name, groups := range map[string][]uint32{"no groups": {}, "two groups": {5001, 5002}, "more groups than at first": many} {
		t.Run(name, func(t *testing.T) {
			l, path := listen(t, Allowed{Users: []uint32{4321}})
			c := child(t, path, 4321, 4322, groups...)
			conn, err := l.AcceptUnix()
			if err != nil {
				t.Fatal(err)
			}
			p, err := Of(conn)
			if err != nil || p.PID != c.Process.Pid || p.UID != 4321 || p.GID != 4322 || !slices.Equal(p.Groups, groups) {
				t.Errorf("%+v, %v", p, err)
			}
			if got := p.String(); got != "uid 4321" {
				t.Errorf("%q", got)
			}
			conn.Close()
			if err := c.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhoIsAllowed(t *testing.T) {
	a := Allowed{Users: []uint32{7}, Groups: []uint32{70, 71}}
	for _, row := range []struct {
		name string
		peer Peer
		want bool
	}{
		{"a user", Peer{UID: 7, GID: 1}, true},
		{"somebody of a group", Peer{UID: 8, GID: 71}, true},
		{"somebody of a supplementary group", Peer{UID: 8, GID: 1, Groups: []uint32{2, 70}}, true},
		{"a user by the number of a group", Peer{UID: 70, GID: 7, Groups: []uint32{7}}, false},
		{"root, who is not named", Peer{}, false},
	} {
		if got := a.Allows(row.peer); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
	if (Allowed{}).Allows(Peer{}) {
		t.Error("nobody is allowed, but root is")
	}
}

// TestWhoMayConnect has the file's permissions say no before anybody is accepted.
func TestWhoMayConnect(t *testing.T) {
	needRoot(t)
	l, path := listen(t, Allowed{Users: []uint32{4323, 4321}, Groups: []uint32{4330, 4330}})
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Fatalf("%v, %v, want 0660", info, err)
	}
	for _, row := range []struct {
		name     string
		uid, gid uint32
		groups   []uint32
		want     bool
	}{
		{"a user", 4321, 1, nil, true},
		{"another user", 4323, 1, nil, true},
		{"a group", 1, 4330, nil, true},
		{"a supplementary group", 1, 1, []uint32{4330}, true},
		{"nobody that is named", 4322, 4322, []uint32{4321}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := child(t, path, row.uid, row.gid, row.groups...)
			if row.want {
				conn, err := l.AcceptUnix()
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
			}
			if err := c.Wait(); (err == nil) != row.want {
				t.Errorf("the child: %v", err)
			}
		})
	}
}

func TestWhatIsNoSocketStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, Allowed{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, want an error with the path", err)
	}
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v: the file is gone", info, err)
	}
}

func TestAStaleSocketMakesRoom(t *testing.T) {
	l, path := listen(t, Allowed{})
	l.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSocket {
		t.Fatalf("%v, %v: want the socket left", info, err)
	}
	again, err := Listen(path, Allowed{})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("FAIRLEAD_TEST_ROOT") == "1" {
			t.Fatal("this test needs root")
		}
		t.Skip("needs root")
	}
}

func TestNamesOfThisHost(t *testing.T) {
	a, err := Named([]string{"root", "4321", "no-such-user"}, []string{"root", "4322", "no-such-group"})
	if !slices.Equal(a.Users, []uint32{0, 4321}) || !slices.Equal(a.Groups, []uint32{0, 4322}) {
		t.Errorf("%+v", a)
	}
	want := "this host has no user \"no-such-user\": name one of getent passwd, or a number\n" +
		"this host has no group \"no-such-group\": name one of getent group, or a number"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
