package splice

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/accesslog"
	"golang.org/x/sys/unix"
)

// A script is what one peer does; it may wait for the other by next.
type script func(c *net.TCPConn, next chan struct{}) error

func TestWhatOneSideDoesArrivesAtTheOther(t *testing.T) {
	for _, row := range []struct {
		name            string
		client, backend script
		want            Stats
		end             accesslog.Ending
	}{
		{"the client's end, and then an answer", says("ping", ends, reads("pong")), reads("ping", says("pong", ends)), Stats{ToBackends: 4, ToClients: 4}, accesslog.Ending{By: accesslog.Client, Reason: accesslog.Done}},
		{"the backend's end, and then more from the client", reads("pong", says("ping", ends)), says("pong", ends, reads("ping")), Stats{ToBackends: 4, ToClients: 4}, accesslog.Ending{By: accesslog.Backend, Reason: accesslog.Done}},
		{"a backend that accepts and closes", reads(""), says("", ends), Stats{}, accesslog.Ending{By: accesslog.Backend, Reason: accesslog.Done}},
		{"a client that connects and closes", says("", ends), reads(""), Stats{}, accesslog.Ending{By: accesslog.Client, Reason: accesslog.Done}},
		{"the client's reset", says("", awaits, resets), says("", goesOn, getsReset), Stats{Resets: 1}, accesslog.Ending{By: accesslog.Client, Reason: accesslog.Reset}},
		{"the backend's reset", says("", hears("hello"), goesOn, getsReset), says("hello", awaits, resets), Stats{Resets: 1, ToClients: 5}, accesslog.Ending{By: accesslog.Backend, Reason: accesslog.Reset}},
		{"the client's reset after its end", says("", ends, awaits, resets), reads("", goesOn, breaks), Stats{Resets: 1}, accesslog.Ending{By: accesslog.Client, Reason: accesslog.Reset}},
		{"the backend's reset after its end", reads("", goesOn, breaks), says("", ends, awaits, resets), Stats{Resets: 1}, accesslog.Ending{By: accesslog.Backend, Reason: accesslog.Reset}},
		{"what the backend said before its reset", says("", hears("last words"), goesOn, getsReset), says("last words", awaits, resets), Stats{Resets: 1, ToClients: 10}, accesslog.Ending{By: accesslog.Backend, Reason: accesslog.Reset}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			next, ended := make(chan struct{}), make(chan error, 1)
			backend, told := listen(t, func(c *net.TCPConn) { ended <- row.backend(c, next) }), make(chan *accesslog.Record, 1)
			p := serve(t, &Proxy{Pick: to(backend), Access: func() func(*accesslog.Record) { return func(r *accesslog.Record) { told <- r } }})
			c := dial(t, p.addr)
			err := row.client(c, next)
			c.Close()
			if err != nil {
				t.Errorf("client: %v", err)
			}
			if err := <-ended; err != nil {
				t.Errorf("backend: %v", err)
			}
			await(t, "the session is over", func() bool { return p.Stats().Active == 0 })
			row.want.Accepted = 1
			if diff := cmp.Diff(row.want, p.Stats()); diff != "" {
				t.Errorf("stats -want +got:\n%s", diff)
			}
			r := <-told
			if r.Ending != row.end || r.BytesIn != row.want.ToBackends || r.BytesOut != row.want.ToClients || r.Backend != backend.String() || r.Client != c.LocalAddr().String() ||
				r.Connect <= 0 || r.Total < r.Connect || (r.FirstByte > 0) != (r.BytesOut > 0) || r.Protocol != "tcp" {
				t.Errorf("the access log is told %+v", r)
			}
		})
	}
}

func says(s string, then ...script) script {
	return func(c *net.TCPConn, next chan struct{}) error {
		if _, err := io.WriteString(c, s); err != nil {
			return err
		}
		return run(then, c, next)
	}
}

func reads(want string, then ...script) script {
	return func(c *net.TCPConn, next chan struct{}) error {
		got, err := io.ReadAll(c)
		if err != nil || string(got) != want {
			return fmt.Errorf("read %q, %w, want %q", got, err, want)
		}
		return run(then, c, next)
	}
}

func hears(want string) script {
	return func(c *net.TCPConn, _ chan struct{}) error {
		got := make([]byte, len(want))
		_, err := io.ReadFull(c, got)
		if string(got) != want {
			return fmt.Errorf("read %q, %w, want %q", got, err, want)
		}
		return nil
	}
}

func run(scripts []script, c *net.TCPConn, next chan struct{}) error {
	for _, s := range scripts {
		if err := s(c, next); err != nil {
			return err
		}
	}
	return nil
}

func ends(c *net.TCPConn, _ chan struct{}) error { return c.CloseWrite() }

func resets(c *net.TCPConn, _ chan struct{}) error {
	reset(c)
	return nil
}

func awaits(_ *net.TCPConn, next chan struct{}) error {
	<-next
	return nil
}

func goesOn(_ *net.TCPConn, next chan struct{}) error {
	close(next)
	return nil
}

func getsReset(c *net.TCPConn, _ chan struct{}) error {
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("read: %w, want a reset", err)
	}
	return nil
}

// breaks waits for a reset on a connection whose input has ended, where reading
// says nothing.
func breaks(c *net.TCPConn, _ chan struct{}) error {
	for end := time.Now().Add(patience); !gone(c); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("no reset")
		}
	}
	return nil
}

func TestMuchInBothDirectionsIsSplicedAndWhole(t *testing.T) {
	const size = 64 << 20
	noise := make([]byte, 1<<20+7)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	send := func(c *net.TCPConn) (uint32, error) {
		h := crc32.NewIEEE()
		_, err := io.CopyN(struct{ io.Writer }{c}, io.TeeReader(&repeat{noise, 0}, h), size)
		return h.Sum32(), errors.Join(err, c.CloseWrite())
	}
	var bad sync.Map
	swap := func(c *net.TCPConn, sum chan uint32, other chan uint32) {
		var wg sync.WaitGroup
		wg.Go(func() {
			s, err := send(c)
			if err != nil {
				bad.Store("send", err)
			}
			sum <- s
		})
		h := crc32.NewIEEE()
		n, err := io.Copy(h, c)
		if want := <-other; n != size || err != nil || h.Sum32() != want {
			bad.Store("receive", fmt.Errorf("%d bytes, sum %x want %x: %w", n, h.Sum32(), want, err))
		}
		wg.Wait()
	}
	up, down := make(chan uint32, 1), make(chan uint32, 1)
	p := serve(t, &Proxy{Pick: to(listen(t, func(c *net.TCPConn) { swap(c, down, up) }))})
	swap(dial(t, p.addr), up, down)
	bad.Range(func(what, err any) bool {
		t.Errorf("%s: %v", what, err)
		return true
	})
	await(t, "the session is over", func() bool { return p.Stats().Active == 0 })
	if diff := cmp.Diff(Stats{Accepted: 1, ToBackends: size, ToClients: size}, p.Stats()); diff != "" {
		t.Errorf("stats -want +got:\n%s", diff)
	}
	if len(pipes) == 0 {
		t.Error("no pipe was used")
	}
}

// repeat reads b again and again.
type repeat struct {
	b  []byte
	at int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.b[r.at:])
	r.at = (r.at + n) % len(r.b)
	return n, nil
}

// flood sends on c until the other side has not read for a second, and returns
// how much it sent, at most most.
func flood(c *net.TCPConn, most int) (n int) {
	for chunk := make([]byte, 64<<10); n < most; {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		k, err := c.Write(chunk)
		n += k
		if err != nil {
			break
		}
	}
	return n
}

const tooMuch = 256 << 20

func TestASlowReaderStopsTheSender(t *testing.T) {
	sent := make(chan int, 1)
	p := serve(t, &Proxy{Pick: to(listen(t, func(c *net.TCPConn) { sent <- flood(c, tooMuch) }))})
	c := dial(t, p.addr)
	n := <-sent
	if n >= tooMuch {
		t.Fatal("the sender was never stopped")
	}
	got, err := io.Copy(io.Discard, c)
	if got != int64(n) || err != nil {
		t.Errorf("read %d of %d bytes: %v", got, n, err)
	}
}

// What one client did not read must never come out of a pipe to another.
func TestAPipeWithBytesInItIsNotUsedAgain(t *testing.T) {
	stuck := make(chan int)
	back := listen(t, func(c *net.TCPConn) { stuck <- flood(c, tooMuch) })
	p := serve(t, &Proxy{Pick: to(back)})
	dial(t, p.addr)
	<-stuck
	p.CloseBackend(back)
	await(t, "the session is over", func() bool { return p.Stats().Active == 0 })
	for range len(pipes) {
		one := <-pipes
		if n, err := unix.IoctlGetInt(one.r, unix.TIOCINQ); n != 0 || err != nil {
			t.Errorf("%d bytes are left in a pipe: %v", n, err)
		}
		putPipe(one)
	}
}

func TestThousandsOfShortConnections(t *testing.T) {
	const each, workers = 150, 20
	p := serve(t, &Proxy{Pick: to(listen(t, echo))})
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range each {
				if err := short(p.addr.String(), fmt.Appendf(nil, "%d", i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	await(t, "all sessions are over", func() bool { return p.Stats().Active == 0 })
	s := p.Stats()
	if s.Accepted != each*workers || s.Resets != 0 || s.ToBackends != s.ToClients {
		t.Errorf("stats %+v", s)
	}
}

func short(addr string, b []byte) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(b); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if !bytes.Equal(got, b) {
		return fmt.Errorf("read %q, want %q: %w", got, b, err)
	}
	return err
}
