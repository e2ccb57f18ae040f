package daemon

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"fairlead/loader"
	"fairlead/userspace/kernel"
	"fairlead/userspace/view"
)

// withMaps calls do with what is pinned.
func (b *bench) withMaps(do func(*loader.Maps) error) {
	b.t.Helper()
	inst, err := loader.Open(b.opts.PinDir)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := errors.Join(do(inst.Maps()), inst.Close()); err != nil {
		b.t.Fatal(err)
	}
}

// breakJournal makes attaching fail until the function that it returns is called.
func (b *bench) breakJournal() (mend func()) {
	b.t.Helper()
	var journal loader.Journal
	b.withMaps(func(m *loader.Maps) (err error) {
		if journal, err = m.ReadJournal(); err != nil {
			return err
		}
		return m.Journal.Put(uint32(0), append([]byte("nonsense"), make([]byte, loader.JournalSize-len("nonsense"))...))
	})
	return func() {
		b.t.Helper()
		b.withMaps(func(m *loader.Maps) error { return m.WriteJournal(journal) })
	}
}

// fillJournal leaves room for a few hundred addresses in the journal.
func (b *bench) fillJournal() {
	b.t.Helper()
	b.withMaps(func(m *loader.Maps) error {
		j, err := m.ReadJournal()
		if err != nil {
			return err
		}
		j.Sysctls = append(j.Sysctls, loader.JournalSysctl{Name: "net.ipv4.conf.gone.forwarding", Old: strings.Repeat("0", loader.JournalSize-16<<10)})
		return m.WriteJournal(j)
	})
}

func TestFailedAttachIsTriedAgain(t *testing.T) {
	b := newBench(t, 1)
	b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.start()
	b.seen("native XDP", onRung(view.RungNative))
	b.stop()
	mend := b.breakJournal()
	b.start()
	b.seen("the proxy", onRung(view.RungProxy))
	b.opened(80)
	mend()
	b.seen("native XDP after a start without", onRung(view.RungNative))
	if n := strings.Count(b.log.String(), "level=WARN msg=\"xdp cannot run"); n != 1 {
		t.Errorf("%d lines about one reason", n)
	}

	b.Balancer.Do(t, func() error { return kernel.Detach(t.Context(), b.opts.PinDir, nil, 0, nil) })
	b.seen("the proxy after a detach", onRung(view.RungProxy))
	b.Balancer.Sysctl(t, "net.ipv4.conf.client1.forwarding", "0")
	b.signal(syscall.SIGHUP)
	b.logged("forwarding is off")
	b.Balancer.Sysctl(t, "net.ipv4.conf.client1.forwarding", "1")
	b.seen("native XDP after a SIGHUP without", onRung(view.RungNative))
	b.opened(80)
	b.stop()
}

func TestBackendThatIsDownStaysSoWhenItsCheckChanges(t *testing.T) {
	b := newBench(t, 2)
	servers := b.greetAll()
	web := b.service("web", "tcp", 80)
	b.configure(b.interfaces(), "services:\n", web)
	b.start()
	servers[1].Close()
	b.seen("one to be down", up(true, false))
	b.configure(b.interfaces(), "services:\n", strings.Replace(web, "interval: 200ms", "interval: 30s", 1), b.service("new", "tcp", 81))
	b.signal(syscall.SIGHUP)
	v := b.seen("the other check", func(v view.View) bool { return len(v.Services) == 2 })
	if v.Services[0].Backends[1].Up {
		t.Error("a backend known to be down counts as up")
	}
	b.stop()
}

// TestReloadThatFailsHalfWay has more addresses than the journal has room for, which
// shows when the larger maps and another interface are in place already.
func TestReloadThatFailsHalfWay(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	web := b.service("web", "tcp", 80)
	b.configure("interfaces: [client1, backend1]\n", "services:\n", web)
	b.start()
	b.opened(80)
	b.fillJournal()
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "  - {name: s%d, listen: '100.100.%d.%d:80', forward: proxy, backends: [{address: '%s:8080'}]}\n", i, 100+i/250, i%250+1, b.BackendAddrs[0])
	}
	b.configure(b.interfaces(), "services:\n", web, many.String())
	b.signal(syscall.SIGHUP)
	b.seen("the fault", func(v view.View) bool { return strings.Contains(v.ConfigError, "journal") && v.XDP.Reason == "" })
	v, err := kernel.Status(b.opts.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Services) != 1 || len(v.Interfaces) != 2 {
		t.Errorf("%d services and %d interfaces are left, want 1 and 2", len(v.Services), len(v.Interfaces))
	}
	b.wantOn()
	b.opened(80)
	b.stop()
}
