package supervise

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager listens as a service manager does.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return c
}

func TestNotify(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@fairlead-test-%d", os.Getpid())} {
		c := manager(t, name)
		if err := Notify(Ready, Status("two\nlines")); err != nil {
			t.Fatal(err)
		}
		var b [200]byte
		n, err := c.Read(b[:])
		if got, want := string(b[:n]), "READY=1\nSTATUS=two; lines"; got != want || err != nil {
			t.Errorf("%s was told %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestNotifyWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify(Ready); err != nil {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := Notify(Ready); err == nil {
		t.Error("a manager that is gone was told")
	}
}

func TestReloadingTellsWhen(t *testing.T) {
	var before, after unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &before)
	text := Reloading()
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &after)
	var usec int64
	if _, err := fmt.Sscanf(strings.ReplaceAll(text, "\n", " "), "RELOADING=1 MONOTONIC_USEC=%d", &usec); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if usec < before.Nano()/1000 || usec > after.Nano()/1000 {
		t.Errorf("%d µs is not between %d and %d ns", usec, before.Nano(), after.Nano())
	}
}

func TestWatchdogInterval(t *testing.T) {
	own := fmt.Sprint(os.Getpid())
	for _, tt := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"30000000", own, 15 * time.Second},
		{"30000000", "", 15 * time.Second},
		{"30000000", "1", 0},
		{"", own, 0},
		{"soon", own, 0},
		{"-1", own, 0},
		{"99999999999999999999", own, 0},
	} {
		t.Setenv("WATCHDOG_USEC", tt.usec)
		t.Setenv("WATCHDOG_PID", tt.pid)
		if got := WatchdogInterval(); got != tt.want {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: %v, want %v", tt.usec, tt.pid, got, tt.want)
		}
	}
}
