package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/testenv/stage"
	"fairlead/userspace/model"
	"fairlead/userspace/supervise"
)

// A manager is what a service manager hears.
type manager struct {
	t    *testing.T
	mu   sync.Mutex
	told []string
}

// newManager makes this process one that a manager has started.
func newManager(t *testing.T) *manager {
	t.Helper()
	name := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	m := &manager{t: t}
	go func() {
		var b [4096]byte
		for {
			n, err := c.Read(b[:])
			if err != nil {
				return
			}
			m.mu.Lock()
			m.told = append(m.told, string(b[:n]))
			m.mu.Unlock()
		}
	}()
	return m
}

// count returns how often it was told what begins so.
func (m *manager) count(prefix string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, told := range m.told {
		if strings.HasPrefix(told, prefix) {
			n++
		}
	}
	return n
}

// hears waits until it was told n times what begins so.
func (m *manager) hears(prefix string, n int) {
	m.t.Helper()
	stage.Await(m.t, prefix, func() error {
		if got := m.count(prefix); got < n {
			return fmt.Errorf("told %d times, want %d", got, n)
		}
		return nil
	})
}

func TestManagerIsTold(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "50000")
	config := "services: [{name: web, listen: '" + site + "', forward: proxy, backends: [{address: '127.0.0.1:1'}]}]\n"
	r := runAgent(t, config)
	m.hears("READY=1", 1)
	m.hears("STATUS=1 service, xdp off", 1)
	m.hears("WATCHDOG=1", 3)
	if n := m.count("RELOADING=1") + m.count("STOPPING=1"); n > 0 {
		t.Errorf("told of %d reloads and ends before there was any", n)
	}
	r.reload("services: 7\n")
	m.hears("RELOADING=1\nMONOTONIC_USEC=", 1)
	m.hears("READY=1", 2)
	m.hears("STATUS=1 service, xdp off, configuration not taken: ", 1)
	r.reload(config)
	m.hears("READY=1", 3)
	m.hears("STATUS=1 service, xdp off", 3)
	r.stop()
	m.hears("STOPPING=1", 1)
}

// TestWatchdogIsOfTheLoop asks whether the manager would find out that the loop
// hangs while the rest of the process lives.
func TestWatchdogIsOfTheLoop(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	o := Options{RunDir: t.TempDir(), Mode: model.XDPOff, Log: slog.New(slog.DiscardHandler)}
	o.complete(&model.Agent{})
	a := newAgent(o, &model.State{})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.loop(ctx)
	}()
	m.hears("WATCHDOG=1", 2)
	hanging, release := make(chan struct{}), make(chan struct{})
	a.send(ctx, func() {
		close(hanging)
		<-release
	})
	<-hanging
	if err := supervise.Notify("MARK=1"); err != nil {
		t.Fatal(err)
	}
	m.hears("MARK=1", 1) // and all that was told before
	before := m.count("WATCHDOG=1")
	time.Sleep(200 * time.Millisecond)
	if after := m.count("WATCHDOG=1"); after != before {
		t.Errorf("the manager was told %d times that a loop lives that hangs", after-before)
	}
	close(release)
	m.hears("WATCHDOG=1", before+1)
	stop()
	<-done
}
