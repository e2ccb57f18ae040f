package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/testenv/leak"
)

// asListeners is the variable that makes the test binary print what it was started
// with.
const asListeners = "FAIRLEAD_TEST_LISTENERS"

func TestMain(m *testing.M) {
	if os.Getenv(asListeners) == "" {
		os.Exit(leak.Each(m).Run())
	}
	for _, f := range Listeners() {
		var b [100]byte
		n, err := f.Read(b[:])
		flags, ferr := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
		fmt.Println(f.Name(), string(b[:n]), err, flags&unix.FD_CLOEXEC != 0, ferr)
	}
	fmt.Println("LISTEN_PID="+os.Getenv("LISTEN_PID"), len(Listeners()))
}

func TestListeners(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ names, pid, count, want string }{
		{"one:two", "$$", "2", "one file 0 <nil> true <nil>\ntwo file 1 <nil> true <nil>\n"},
		{"one", "$$", "2", "one file 0 <nil> true <nil>\nunknown file 1 <nil> true <nil>\n"},
		{"one:two", "1", "2", ""},
		{"one:two", "$$", "some", ""},
		{"", "$$", "0", ""},
	} {
		cmd := exec.Command("/bin/sh", "-c", "export LISTEN_PID="+row.pid+`; exec "$0"`, own)
		cmd.Env = append(os.Environ(), asListeners+"=1", "LISTEN_FDS="+row.count, "LISTEN_FDNAMES="+row.names)
		for i := range 2 {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			fmt.Fprint(w, "file ", i)
			w.Close()
			cmd.ExtraFiles = append(cmd.ExtraFiles, r)
		}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil || out.String() != row.want+"LISTEN_PID= 0\n" {
			t.Errorf("%+v: %v, got\n%s", row, err, &out)
		}
	}
}

func TestStore(t *testing.T) {
	c := manager(t, t.TempDir()+"/notify")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := Store("web", int(r.Fd())); err != nil {
		t.Fatal(err)
	}
	r.Close()
	var data, rights [200]byte
	n, m, _, _, err := c.ReadMsgUnix(data[:], rights[:])
	if text := string(data[:n]); err != nil || !strings.HasPrefix(text, "FDSTORE=1\n") || !strings.HasSuffix(text, "\nFDNAME=web") {
		t.Errorf("told %q, %v", text, err)
	}
	parts, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil || len(parts) != 1 {
		t.Fatalf("%d messages, %v", len(parts), err)
	}
	fds, err := unix.ParseUnixRights(&parts[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("%d descriptors, %v", len(fds), err)
	}
	kept := os.NewFile(uintptr(fds[0]), "kept")
	defer kept.Close()
	fmt.Fprint(w, "x")
	if n, err := kept.Read(data[:]); n != 1 || err != nil {
		t.Errorf("the descriptor reads %d bytes, %v", n, err)
	}
	if err := Remove("web"); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(data[:]); string(data[:n]) != "FDSTOREREMOVE=1\nFDNAME=web" {
		t.Errorf("told %q, %v", data[:n], err)
	}
}

func TestStoreWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Store("web", 0); err != nil {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", t.TempDir()+"/gone")
	if err := Store("web", 0); err == nil {
		t.Error("a manager that is gone was told")
	}
}

func TestAwait(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Await(time.Hour); err != nil {
		t.Errorf("without a manager: %v", err)
	}
	c := manager(t, t.TempDir()+"/notify")
	if err := Await(time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a manager that does nothing: %v", err)
	}
	var data, rights [200]byte
	take := func() {
		n, m, _, _, err := c.ReadMsgUnix(data[:], rights[:])
		if err != nil || string(data[:n]) != "BARRIER=1" {
			t.Errorf("told %q, %v", data[:n], err)
		}
		parts, err := unix.ParseSocketControlMessage(rights[:m])
		if err != nil || len(parts) != 1 {
			t.Errorf("%d messages, %v", len(parts), err)
			return
		}
		fds, err := unix.ParseUnixRights(&parts[0])
		if err != nil {
			t.Error(err)
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	take() // the one from before
	go take()
	if err := Await(time.Minute); err != nil {
		t.Error(err)
	}
}
