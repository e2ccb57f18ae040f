package leak_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/leak"
)

// leaks is the environment variable that has TestLeaves leave something open.
const leaks = "FAIRLEAD_LEAK_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(leaks) != "" {
		leak.Alone()
	}
	leak.Each(m).Run()
}

// A fake is a test whose faults are written down.
type fake struct {
	name     string
	cleanups []func()
	faults   []string
	failed   bool
}

func (f *fake) Name() string     { return f.name }
func (f *fake) Helper()          {}
func (f *fake) Cleanup(c func()) { f.cleanups = append(f.cleanups, c) }
func (f *fake) Failed() bool     { return f.failed }
func (f *fake) Errorf(format string, args ...any) {
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}

// Fatalf does not end it: nothing here goes on after it.
func (f *fake) Fatalf(format string, args ...any) { f.Errorf(format, args...) }

func (f *fake) end() {
	for _, c := range slices.Backward(f.cleanups) {
		c()
	}
}

// alone returns what starts a test beside which only others of its own run.
func alone(t *testing.T) (start func(name string) *fake) {
	t.Helper()
	check, undo := leak.Alone()
	t.Cleanup(undo)
	return func(name string) *fake {
		f := &fake{name: name}
		check(f)
		return f
	}
}

// wantFaults wants one fault for each, which begins and goes on like it.
func wantFaults(t *testing.T, f *fake, want ...[2]string) {
	t.Helper()
	if !slices.EqualFunc(f.faults, want, func(fault string, w [2]string) bool {
		return strings.HasPrefix(fault, w[0]) && strings.Contains(fault, w[1])
	}) {
		t.Errorf("%s: faults %q, want %q", f.name, f.faults, want)
	}
}

func newMap(t *testing.T) *ebpf.Map {
	t.Helper()
	testenv.RequireRoot(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "forgotten", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 8, Flags: unix.BPF_F_MMAPABLE})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhatIsLeftIsFound(t *testing.T) {
	for _, row := range []struct {
		name string
		open func(t *testing.T) (shut func() error)
		want string
	}{
		{"a file", func(t *testing.T) func() error { return newFile(t, "forgotten").Close }, "/forgotten"},
		{"a listener", func(t *testing.T) func() error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			return l.Close
		}, "from 127.0.0.1:"},
		{"a goroutine", func(*testing.T) func() error {
			stop := make(chan struct{})
			go func() { <-stop }()
			return func() error { close(stop); return nil }
		}, "goroutines"},
		{"a map", func(t *testing.T) func() error { return newMap(t).Close }, "anon_inode:bpf-map map_id "},
		{"a view of a map", func(t *testing.T) func() error {
			m := newMap(t)
			defer m.Close()
			view, err := unix.Mmap(m.FD(), 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				t.Fatal(err)
			}
			return func() error { return unix.Munmap(view) }
		}, "mapping "},
	} {
		t.Run(row.name, func(t *testing.T) {
			start := alone(t)
			guilty := start("TestGuilty")
			shut := row.open(t)
			guilty.end()
			wantFaults(t, guilty, [2]string{"TestGuilty left ", row.want})
			next := start("TestNext")
			next.end()
			wantFaults(t, next)
			if err := shut(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPipesOfPackageNetAreNoLeak passes on bytes by splicing, for which package net
// keeps a pipe that it lets go of by and by. The test's own check waits for that.
func TestPipesOfPackageNetAreNoLeak(t *testing.T) {
	from, to := connected(t), connected(t)
	if _, err := from[0].Write([]byte("bytes")); err != nil {
		t.Fatal(err)
	}
	if err := from[0].CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := to[0].ReadFrom(from[1]); n != 5 || err != nil {
		t.Fatalf("passed on %d bytes: %v", n, err)
	}
	if pipes := openPipes(t); pipes == 0 {
		t.Error("no pipe is open")
	}
}

// connected returns both ends of a connection, which end with the test.
func connected(t *testing.T) (ends [2]*net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i, open := range []func() (net.Conn, error){
		func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }, l.Accept,
	} {
		c, err := open()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		ends[i] = c.(*net.TCPConn)
	}
	return ends
}

// openPipes counts descriptors of pipes of the size that package net gives them.
func openPipes(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0); err == nil && size == leak.NetPipe {
			n++
		}
	}
	return n
}

func TestPinsThatSomebodyHoldsAreFound(t *testing.T) {
	dir := testenv.BPFFS(t)
	m := newMap(t)
	if err := m.Pin(filepath.Join(dir, "pin")); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	start := alone(t)
	guilty := start("TestGuilty")
	leak.Note(guilty, dir)
	guilty.end() // the pin is there yet
	wantFaults(t, guilty, [2]string{"TestGuilty left map ", "pinned as pin"})
	tidy := start("TestTidy")
	leak.Note(tidy, dir)
	if err := os.Remove(filepath.Join(dir, "pin")); err != nil {
		t.Fatal(err)
	}
	tidy.end()
	wantFaults(t, tidy)
}

func TestOfTestsBesideEachOtherOneIsNamed(t *testing.T) {
	start := alone(t)
	early, guilty, late := start("TestEarly"), start("TestGuilty"), start("TestLate")
	early.end()
	f := newFile(t, "forgotten")
	guilty.end()
	late.end()
	wantFaults(t, early)
	wantFaults(t, guilty)
	wantFaults(t, late, [2]string{"TestGuilty, or a test beside it ", "/forgotten"})
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestFailedTestsAreLeftAlone(t *testing.T) {
	f := newFile(t, "forgotten")
	defer f.Close()
	start := alone(t)
	failed := start("TestFailed")
	failed.failed = true
	failed.end()
	wantFaults(t, failed)
}

func TestOtherProcessesAreLookedAt(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", `read x; exec 7>`+dir+`/forgotten; echo open; read x; exec 7>&-; echo shut; read x; exit 0`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, undo := leak.Alone()
	defer undo()
	before, err := leak.Take(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"open", "shut"} {
		fmt.Fprintln(in)
		if _, err := fmt.Fscanln(out, new(string)); err != nil {
			t.Fatal(err)
		}
		if err := before.Await(); (err != nil) != (want == "open") || err != nil && !strings.Contains(err.Error(), dir+"/forgotten") {
			t.Errorf("%s: %v", want, err)
		}
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestLeaves leaks where it is told to, which makes the test binary fail.
func TestLeaves(t *testing.T) {
	if os.Getenv(leaks) == "test" {
		forgotten = newFile(t, "forgotten")
	}
}

var forgotten io.Closer

// Example leaks as TestLeaves does.
func Example() {
	if os.Getenv(leaks) == "example" {
		forgotten, _ = net.Listen("tcp", "127.0.0.1:0")
	}
	fmt.Println("done")
	// Output: done
}

func TestEveryTestOfAPackageIsLookedAt(t *testing.T) {
	for _, row := range []struct {
		leak, want string
	}{
		{"", "PASS"},
		{"test", "TestLeaves left something open: descriptor "},
		{"example", "Example left something open: descriptor "},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^(TestLeaves|Example)$")
		cmd.Env = append(os.Environ(), leaks+"="+row.leak)
		out, err := cmd.CombinedOutput()
		if (err != nil) != (row.leak != "") || !strings.Contains(string(out), row.want) {
			t.Errorf("a package whose test leaks (%q): %v, %s", row.leak, err, out)
		}
	}
}
