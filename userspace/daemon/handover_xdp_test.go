package daemon

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// succeeded has a successor take over from the agent, and waits until its view is there,
// with every service on a rung.
func (b *bench) succeeded(pid int, rung view.Rung) (successor int) {
	b.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		b.t.Fatal(err)
	}
	stage.Await(b.t, "a successor", func() error {
		v, err := view.Read(b.opts.RunDir)
		if err != nil {
			return err
		}
		if successor = v.PID; successor == pid || !onRung(rung)(v) {
			return errors.New("not yet")
		}
		return nil
	})
	return successor
}

// TestXDPForwardsWhileSuccessorsTakeOver has processes take each other's place while
// clients come, and one stays, all through XDP.
func TestXDPForwardsWhileSuccessorsTakeOver(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil { // who waits for a successor
		t.Fatal(err)
	}
	b.start()
	b.seen("both up", up(true, true))
	long, _ := b.opened(80)
	visit := func() error {
		c, _, err := b.connect(80)
		if err != nil {
			return err
		}
		defer c.Close()
		return errors.Join(works(c), c.(*net.TCPConn).SetLinger(0)) // or ports run out
	}
	stop := visitors(t, visit, visit, func() error { return works(long) })
	pid, times := b.cmd.Process.Pid, 3
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		times = repeats
	}
	for range times {
		pid = b.succeeded(pid, view.RungNative)
	}
	b.awaitEnd(b.cmd.Process.Pid)
	// One that fails half-way changes nothing.
	b.configure(b.interfaces(), "services: 7\n")
	failures := strings.Count(b.log.String(), "no successor")
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	stage.Await(t, "a failure", func() error {
		if strings.Count(b.log.String(), "no successor") == failures {
			return errors.New("not yet")
		}
		return nil
	})
	if came := stop(); came < 10 {
		t.Errorf("%d visits", came)
	}
	if v := b.seen("XDP", onRung(view.RungNative)); v.Proxy.TCP.Accepted != 0 || v.PID != pid {
		t.Errorf("process %d has accepted %d connections, want %d and none", v.PID, v.Proxy.TCP.Accepted, pid)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	b.awaitEnd(pid)
}

// TestAddressesStayWhileSuccessorsTakeOver has no XDP, so that the service address is the
// agent's alone: no process takes it away before the last one ends, not even for a moment.
func TestAddressesStayWhileSuccessorsTakeOver(t *testing.T) {
	b := newBench(t, 1)
	b.greetAll()
	b.configure("xdp: off\nservices:\n", b.service("web", "tcp", 80))
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil { // who waits for a successor
		t.Fatal(err)
	}
	b.start()
	b.wantLocal(true)
	var gone atomic.Int32
	changes, done := make(chan netlink.AddrUpdate), make(chan struct{})
	b.Balancer.Do(t, func() error { return netlink.AddrSubscribe(changes, done) })
	var watching sync.WaitGroup
	watching.Go(func() {
		for u := range changes {
			if ip, _ := netip.AddrFromSlice(u.LinkAddress.IP); ip.Unmap() == vip && !u.NewAddr {
				gone.Add(1)
			}
		}
	})
	pid := b.cmd.Process.Pid
	for range 3 {
		pid = b.succeeded(pid, view.RungProxy)
	}
	b.awaitEnd(b.cmd.Process.Pid)
	b.wantLocal(true)
	b.opened(80)
	if n := gone.Load(); n > 0 {
		t.Errorf("the address was taken away %d times", n)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	b.awaitEnd(pid)
	stage.Await(t, "the address to be taken away at the end, and to be told of it", func() error {
		if gone.Load() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	close(done)
	watching.Wait()
	b.wantNothing()
}

// awaitEnd waits until an agent has ended in good order.
func (b *bench) awaitEnd(pid int) {
	b.t.Helper()
	var status unix.WaitStatus
	stage.Await(b.t, "the end of an agent", func() error {
		if n, err := unix.Wait4(pid, &status, unix.WNOHANG, nil); n != pid {
			return errors.Join(errors.New("it runs"), err)
		}
		return nil
	})
	if status.ExitStatus() != 0 {
		b.t.Errorf("an agent ended with status %d", status.ExitStatus())
	}
	if pid == b.cmd.Process.Pid {
		if err := b.cmd.Process.Release(); err != nil { // its own Wait finds nobody any more
			b.t.Error(err)
		}
	}
}
