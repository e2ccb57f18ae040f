package daemon

import (
	"strings"
	"testing"

	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// marked is the configuration of a service over all backends, with words for
// some of them.
func (b *bench) marked(more string, words map[int]string) string {
	text := b.balanced(more)
	for i, w := range words {
		addr := "'" + b.BackendAddrs[i].String() + ":8080'"
		text = strings.Replace(text, addr, addr+", "+w, 1)
	}
	return text
}

// serving returns whether those serve the first service.
func serving(want model.Serving) func(view.View) bool {
	return func(v view.View) bool { return v.Services[0].Serving == want }
}

// wantBackends opens connections and wants all of these backends to get some,
// and nobody else.
func (b *bench) wantBackends(want ...int) {
	b.t.Helper()
	missing := map[int]bool{}
	for _, i := range want {
		missing[i] = true
	}
	for range 4 * len(want) {
		c, backend, err := b.connect(80)
		if err != nil {
			b.t.Fatal(err)
		}
		c.Close()
		known := false
		for _, i := range want {
			known = known || i == backend
		}
		if !known {
			b.t.Errorf("backend %d got a connection, want one of %v", backend, want)
		}
		delete(missing, backend)
	}
	if len(missing) > 0 {
		b.t.Errorf("no connection for %v", missing)
	}
}

// TestBackupServesWhileNoOtherCan goes by XDP, and by the proxy.
func TestBackupServesWhileNoOtherCan(t *testing.T) {
	for _, more := range []string{"on-down: reset", "forward: proxy"} {
		b := newBench(t, 2)
		servers := b.greetAll()
		b.configure(b.marked(more, map[int]string{1: "backup: true"}))
		b.start()
		b.seen("all up", up(true, true))
		b.wantBackends(0)

		servers[0].Close()
		v := b.seen("backups", serving(model.ServingBackups))
		if x := v.Services[0].Backends[1]; !x.Backup || !x.Serves {
			t.Errorf("the backup is seen as %+v", x)
		}
		b.wantBackends(1)
		stays, _ := b.opened(80)

		b.greet(0)
		v = b.seen("the first again", serving(model.ServingUp))
		if x := v.Services[0].Backends[1]; x.Serves {
			t.Errorf("the backup still serves: %+v", x)
		}
		b.wantBackends(0)
		if err := works(stays); err != nil {
			t.Errorf("%s: the connection to the backup: %v", more, err)
		}
		b.stop()
	}
}
