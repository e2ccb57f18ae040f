package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// wantOn checks that the kernel forwards by itself.
func (b *bench) wantOn() {
	b.t.Helper()
	if m, err := b.mode(); err != nil || m != loader.ModeOn {
		b.t.Errorf("mode %v, %v, want on", m, err)
	}
}

func TestEndWhileStartingLeavesXDPOn(t *testing.T) {
	b := newBench(t, 1)
	b.greetAll()
	web := b.service("web", "tcp", 80)
	b.configure(b.interfaces(), "services:\n", web)
	b.start()
	b.seen("native XDP", onRung(view.RungNative))
	b.stop()
	b.wantOn()

	const silent = "10.2.1.77" // for which the start waits a second
	b.configure(b.interfaces(), "services:\n", web, strings.NewReplacer("web", "new", "10:80'", "10:81'", b.BackendAddrs[0].String(), silent).Replace(web))
	b.launch()
	stage.Await(t, "wait for a neighbour", func() error {
		inst, err := loader.Open(b.opts.PinDir)
		if err != nil {
			return err
		}
		defer inst.Close()
		j, err := inst.Maps().ReadJournal()
		if err == nil && !slices.ContainsFunc(j.Neighbours, func(n loader.JournalNeighbour) bool { return n.Address.String() == silent }) {
			err = errors.New("not yet")
		}
		return err
	})
	b.signal(syscall.SIGTERM)
	_ = b.cmd.Wait() // says that it was interrupted
	b.wantOn()
	b.opened(80)
}

func TestUnreadableAddressesStay(t *testing.T) {
	b := newBench(t, 1)
	b.configure("xdp: off\nservices:\n", b.service("web", "tcp", 80))
	path := filepath.Join(b.opts.RunDir, addressesFile)
	if err := errors.Join(os.MkdirAll(b.opts.RunDir, 0o755), os.WriteFile(path, []byte("[nonsense"), 0o600)); err != nil {
		t.Fatal(err)
	}
	b.launch()
	if err := b.cmd.Wait(); err == nil || !strings.Contains(b.log.String(), path) {
		t.Errorf("agent: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file that the error names: %v", err)
	}
}

func TestEndWhileXDPIsOff(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.start()
	b.seen("native XDP", onRung(view.RungNative))
	b.loseXDP()
	b.stop() // attaches once more
	b.wantOn()
	b.opened(80)

	b.start()
	b.Balancer.Sysctl(t, "net.ipv4.conf.client1.forwarding", "0")
	inst, err := loader.Open(b.opts.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	inst.SetMode(loader.ModeOff) // as a detach that is killed; attaching fails
	if err := inst.Close(); err != nil {
		t.Fatal(err)
	}
	b.seen("the proxy", onRung(view.RungProxy))
	b.stop()
	b.wantOn() // all links are there
	b.Balancer.Sysctl(t, "net.ipv4.conf.client1.forwarding", "1")
	b.opened(80)

	b.start()
	b.Balancer.Do(t, func() error {
		l, err := netlink.LinkByName("backend2")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	b.seen("the proxy", onRung(view.RungProxy))
	b.stop()
	if !strings.Contains(b.log.String(), "nobody serves; run: loader attach") {
		t.Error("it does not say that XDP stays off")
	}
}

// TestTheEndSaysWhatWasCut: a connection that outlives the grace.
func TestTheEndSaysWhatWasCut(t *testing.T) {
	out, plain := &stage.Output{}, testenv.FreeAddress(t)
	r := runAgentWith(t, fmt.Sprintf("services: [{name: plain, listen: '%s', forward: proxy, backends: [{address: %q}]}]\n", plain, echo(t).Addr()), func(o *Options) {
		o.Grace, o.Log = 100*time.Millisecond, slog.New(slog.NewTextHandler(io.MultiWriter(out, t.Output()), nil))
	})
	c, err := net.Dial("tcp", plain)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	r.end()
	if text := out.String(); !strings.Contains(text, `msg="proxies have ended" open=1 cut=1 grace=100ms`) {
		t.Errorf("the log says\n%s", text)
	}
	r.start() // which the test's end waits for
}
