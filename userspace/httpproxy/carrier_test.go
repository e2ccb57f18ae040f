package httpproxy

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/userspace/model"
)

// TestSharedConnectionsAreGivenUpSoon looks at what the kernel was told; that it does
// so is what TestAServerThatVanishesIsLeft of the end-to-end tests shows.
func TestSharedConnectionsAreGivenUpSoon(t *testing.T) {
	for _, shared := range []bool{true, false} {
		p := poolOf(names(t, "x"))
		p.HTTP2 = shared
		f := serve(t, everything(usual), map[string]*model.Pool{"main": p})
		dial := f.pools["main"].set.Load().carriers.usual.DialContext
		x := &exchange{timeouts: &usual}
		c, err := dial(context.WithValue(t.Context(), exchangeKey{}, x), "tcp4", p.Backends[0].Address.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if f, ok := c.(*frames); ok {
			c = f.Conn
		}
		raw, err := c.(*line).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		option := func(name int) (n int) {
			t.Helper()
			if err := raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, name) }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		want := 0
		if shared {
			want = 5000
		}
		if got := option(unix.TCP_USER_TIMEOUT); got != want {
			t.Errorf("HTTP/2 %v: given up after %d ms without an answer, want %d", shared, got, want)
		}
		if got := option(unix.TCP_KEEPIDLE); shared && got != 5 {
			t.Errorf("the first question after %d s of silence, want 5", got)
		}
	}
}
