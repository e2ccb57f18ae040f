package daemon

import (
	"strings"
	"syscall"
	"testing"

	"fairlead/userspace/config"
	"fairlead/userspace/kernel"
	"fairlead/userspace/view"
)

// TestInterfaceTakenOutStaysOut takes one out beside the agent: it is not lost.
func TestInterfaceTakenOutStaysOut(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	one := strings.Replace(b.service("one", "tcp", 81), ", {address: '10.2.2.2:8080'}", "", 1)
	b.configure(b.interfaces(), "services:\n", one, b.service("both", "tcp", 80))
	b.start()
	b.seen("native XDP", onRung(view.RungNative))
	takeOut := func() {
		t.Helper()
		b.Balancer.Do(t, func() error { return kernel.Detach(t.Context(), b.opts.PinDir, []string{"backend2"}, 0, nil) })
	}
	isOut := func(v view.View) bool {
		i := v.XDP.Interfaces[2]
		return i.Name == "backend2" && i.Mode == "" && i.Reason == takenOut && rungs("backend2 is not attached", view.RungNative, view.RungProxy)(v)
	}
	takeOut()
	b.seen("the proxy for what is behind it", isOut)
	b.wantOn()
	b.loseXDP()
	b.seen("the others attached again", isOut)
	b.opened(80)
	b.opened(81)
	b.signal(syscall.SIGHUP)
	b.seen("all after a reload", rungs("", view.RungNative, view.RungNative))
	takeOut()
	b.loseXDP() // at the same time
	b.seen("the others attached again", isOut)
	b.Balancer.Do(t, func() error {
		state, err := config.Load(b.opts.Config)
		if err != nil {
			return err
		}
		k, _, err := kernel.Attach(t.Context(), &state, kernel.Options{Dir: b.opts.PinDir})
		if err != nil {
			return err
		}
		return k.Close()
	})
	v := b.seen("all after an attach", rungs("", view.RungNative, view.RungNative))
	if i := v.XDP.Interfaces[2]; i.Mode != "native" || i.Reason != "" {
		t.Errorf("interface %+v", i)
	}
	if n := strings.Count(b.log.String(), "lost its XDP program"); n != 2 {
		t.Errorf("interfaces were lost %d times, want 2", n)
	}
	b.stop()
}
