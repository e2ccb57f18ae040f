package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// memory returns what a process holds of it in bytes, and the most that it held
// since forgetPeak.
func memory(t *testing.T, p *stage.Process) (now, most int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		for name, to := range map[string]*int64{"VmRSS:": &now, "VmHWM:": &most} {
			if f := strings.Fields(line); f[0] == name {
				n, err := strconv.ParseInt(f[1], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				*to = n << 10
			}
		}
	}
	return now, most
}

// forgetPeak makes what a process holds now the most that it held.
func forgetPeak(t *testing.T, p *stage.Process) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID()), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// many answers how many bytes came, or sends as many as it is asked for.
func many(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
		return
	}
	n, err := strconv.ParseInt(r.URL.RawQuery, 10, 64)
	if err == nil {
		w.Header().Set("Content-Length", r.URL.RawQuery)
		_, err = io.CopyN(w, zeros{}, n)
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

// TestBodiesTakeNoMemory moves 256 MiB each way at once, or 10 GiB in slow runs, and
// looks at the agent's process.
func TestBodiesTakeNoMemory(t *testing.T) {
	const bound = 48 << 20 // what it may hold more at any time
	size := int64(slow(256, 10<<10)) << 20
	s := openShop(t, false)
	for name, row := range map[string]struct {
		url string
		set func(*http.Protocols)
	}{
		"HTTP/1.1":        {plainShop + "many", func(p *http.Protocols) { p.SetHTTP1(true) }},
		"HTTP/2 with TLS": {tlsShop + "two/many", func(p *http.Protocols) { p.SetHTTP2(true) }},
	} {
		client := s.client(t, row.set)
		before, _ := memory(t, s.agent)
		forgetPeak(t, s.agent)
		began := time.Now()
		var both errgroup.Group
		both.Go(func() error { return send(client, row.url, size) })
		both.Go(func() error { return fetch(client, row.url, size) })
		if err := both.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, most := memory(t, s.agent)
		t.Logf("%s: %d MiB each way in %s, %d KiB more", name, size>>20, time.Since(began).Round(time.Millisecond), (most-before)>>10)
		if most-before > bound {
			t.Errorf("%s: it holds %d bytes more, want %d at most", name, most-before, bound)
		}
	}
	s.settle(t, 0)
}

// send sends a body of a size, and fails unless all of it arrives.
func send(client *http.Client, url string, size int64) error {
	r, err := http.NewRequest(http.MethodPut, url, io.LimitReader(zeros{}, size))
	if err != nil {
		return err
	}
	r.ContentLength = size
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if want := fmt.Sprint(size, nil); err == nil && string(text) != want {
		err = fmt.Errorf("the server says %q, want %q", text, want)
	}
	return err
}

// fetch asks for a body of a size, and fails unless all of it comes.
func fetch(client *http.Client, url string, size int64) error {
	res, err := client.Get(fmt.Sprintf("%s?%d", url, size))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes come, want %d", n, size)
	}
	return err
}

// TestIdleConnectionsTakeLittleMemory keeps 1000 connections open after a request
// each, or 20 000 in slow runs, and looks at the agent's process.
func TestIdleConnectionsTakeLittleMemory(t *testing.T) {
	const bound = 64 << 10 // bytes each
	n := descriptors(t, slow(1000, 20000))
	for name, secure := range map[string]bool{"without TLS": false, "with TLS": true} {
		s := openShop(t, false)
		s.leave(t, 20, secure)() // what it needs once
		before, _ := memory(t, s.agent)
		done := s.leave(t, n, secure)
		s.AwaitView("all to be idle", func(v *view.View) bool {
			return v.Proxy.HTTP.Active == int64(n) && v.Proxy.HTTP.Running == 0
		})
		after, _ := memory(t, s.agent)
		each := (after - before) / int64(n)
		t.Logf("%d idle connections %s: %d bytes each", n, name, each)
		if each > bound {
			t.Errorf("an idle connection %s takes %d bytes, want %d at most", name, each, bound)
		}
		s.settle(t, 0)
		done()
	}
}

// descriptors returns how many of n connections both the test and what it starts may
// have, which not every root may change.
func descriptors(t *testing.T, n int) int {
	t.Helper()
	const others = 300
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if want := uint64(n + others); old.Max < want && unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: want, Max: want}) == nil {
		t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) })
		return n
	}
	return min(n, int(old.Max)-others)
}

// leave has clients make a request each, and keep their connections until the
// function that it returns is called.
func (s *shop) leave(t *testing.T, n int, secure bool) (done func()) {
	t.Helper()
	const workers = 8
	defer s.counts(t, n)()
	var mu sync.Mutex
	var open []net.Conn
	var all errgroup.Group
	for i := range workers {
		all.Go(s.Clients[0].Go(func() error {
			for range n/workers + min(1, max(0, n%workers-i)) {
				c, err := s.idle(secure)
				if err != nil {
					return err
				}
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
			}
			return nil
		}))
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	return func() {
		for _, c := range open {
			c.Close()
		}
	}
}

// idle returns a connection over which a request was answered.
func (s *shop) idle(secure bool) (net.Conn, error) {
	port := ":80"
	if secure {
		port = ":443"
	}
	c, err := net.DialTimeout("tcp", vip+port, stage.Patience)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(stage.Patience))
	if secure {
		c = tls.Client(c, &tls.Config{RootCAs: s.ca.Pool(), ServerName: shopName})
	}
	if _, err := io.WriteString(c, "GET /x HTTP/1.1\r\nHost: "+shopName+"\r\nCookie: "+strings.Repeat("crumbs ", 100)+"\r\n\r\n"); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return c, err
}
