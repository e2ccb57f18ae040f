package httpproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"fairlead/testenv/testca"
	"fairlead/userspace/model"
)

// A framer is a backend of HTTP/2 that counts the bodies of the requests that it has
// taken, and does with some what told says.
type framer struct {
	// told is asked about each request that is whole, the n-th of its connection.
	told func(n int) fate

	mu    sync.Mutex
	asked int
	taken map[string]int // by body
}

// A fate is what becomes of a request.
type fate int

const (
	answered  fate = iota
	leftOut        // GOAWAY says that it was not looked at
	refused        // so does a reset
	malformed      // it was obeyed, but the client hears that it was wrong
)

// listen opens the backend, over TLS if ca is there.
func (b *framer) listen(t *testing.T, ca *testca.CA) string {
	t.Helper()
	b.taken = map[string]int{}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	origin := "http://" + l.Addr().String()
	if ca != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{ca.Pair("127.0.0.1")}, NextProtos: []string{"h2"}})
		origin = "https://" + l.Addr().String()
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer context.AfterFunc(t.Context(), func() { c.Close() })()
				defer c.Close()
				b.talk(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return origin
}

// talk serves a connection until it ends.
func (b *framer) talk(c net.Conn) {
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	var out bytes.Buffer
	x := http2.NewFramer(&out, c)
	err := x.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	bodies, n, last, left := map[uint32]string{}, 0, uint32(0), false
	for err == nil {
		if _, err = out.WriteTo(c); err != nil {
			return
		}
		var got http2.Frame
		if got, err = x.ReadFrame(); err != nil {
			return
		}
		switch got := got.(type) {
		case *http2.SettingsFrame:
			if !got.IsAck() {
				err = x.WriteSettingsAck()
			}
		case *http2.DataFrame:
			id := got.StreamID
			bodies[id] += string(got.Data())
			if got.StreamEnded() && (!left || id < last) {
				n++
				what := b.told(n)
				if what == leftOut && id < last {
					what = answered // a later one was
				}
				if left = left || what == leftOut; what == answered {
					last = max(last, id)
				}
				b.decide(x, id, last, what, bodies[id])
			}
			err = x.WriteWindowUpdate(0, max(1, uint32(len(got.Data()))))
		}
	}
}

// decide does with a request what was told. last is the last stream that was answered.
func (b *framer) decide(x *http2.Framer, id, last uint32, what fate, body string) {
	b.mu.Lock()
	if b.asked++; what == answered || what == malformed {
		b.taken[body]++
	}
	b.mu.Unlock()
	switch what {
	case answered:
		var fields bytes.Buffer
		_ = hpack.NewEncoder(&fields).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		_ = x.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fields.Bytes(), EndHeaders: true, EndStream: true})
	case leftOut:
		_ = x.WriteGoAway(last, http2.ErrCodeNo, nil)
	case refused:
		_ = x.WriteRSTStream(id, http2.ErrCodeRefusedStream)
	case malformed:
		_ = x.WriteRSTStream(id, http2.ErrCodeProtocol)
	}
}

// front opens a front for the backend.
func (b *framer) front(t *testing.T, secure bool) *front {
	t.Helper()
	var ca *testca.CA
	if secure {
		ca = testca.New(t)
	}
	p := poolOf(b.listen(t, ca))
	p.HTTP2, p.Retry.Attempts = true, 0
	f := serve(t, everything(usual), map[string]*model.Pool{"main": p})
	if secure {
		f.pools["main"].UseTLS(&tls.Config{RootCAs: ca.Pool()})
	}
	return f
}

// TestWhatABackendHasNotTakenIsSentAgain has it leave connections, or refuse streams,
// while POSTs are on their way: each arrives, and once.
func TestWhatABackendHasNotTakenIsSentAgain(t *testing.T) {
	for _, row := range []struct {
		name string
		told func(n int) fate
	}{
		{"left out by GOAWAY", func(n int) fate { return map[bool]fate{n == 8: leftOut}[true] }},
		{"refused", func(n int) fate { return map[bool]fate{n%8 == 0: refused}[true] }},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %t", row.name, secure), func(t *testing.T) {
				b := &framer{told: row.told}
				f := b.front(t, secure)
				client := http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: patience}
				defer client.CloseIdleConnections()
				var clients sync.WaitGroup
				for c := range 8 {
					clients.Go(func() {
						for i := range 25 {
							// The body has no length, so that it ends with a frame of its own.
							body := io.MultiReader(strings.NewReader(fmt.Sprint(c, " ")), strings.NewReader(fmt.Sprint(i)))
							res, err := client.Post("http://"+f.addr, "text/plain", body)
							if err != nil {
								t.Error(err)
								return
							}
							res.Body.Close()
							if res.StatusCode != 200 {
								t.Errorf("client %d, request %d: status %d", c, i, res.StatusCode)
							}
						}
					})
				}
				clients.Wait()
				b.mu.Lock()
				defer b.mu.Unlock()
				for body, times := range b.taken {
					if times != 1 {
						t.Errorf("%q arrived %d times", body, times)
					}
				}
				if len(b.taken) != 200 {
					t.Errorf("%d requests of 200 arrived", len(b.taken))
				}
			})
		}
	}
}

// TestWhatABackendMayHaveTakenIsNotSentAgain, nor what nobody has any more, nor for ever.
func TestWhatABackendMayHaveTakenIsNotSentAgain(t *testing.T) {
	for _, row := range []struct {
		name  string
		what  fate
		size  int
		asked int // how often the backend is
		taken int
	}{
		{"called wrong", malformed, 10, 1, 1},
		{"larger than what is kept", refused, maxReplay + 1, 1, 0},
		{"refused again and again", refused, 10, 1 + mostUntaken, 0},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %t", row.name, secure), func(t *testing.T) {
				b := &framer{told: func(int) fate { return row.what }}
				body := strings.Repeat("x", row.size)
				res, _ := b.front(t, secure).ask(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", row.size, body))
				b.mu.Lock()
				defer b.mu.Unlock()
				if res.StatusCode != 502 || b.asked != row.asked || b.taken[body] != row.taken {
					t.Errorf("status %d, asked %d times, taken %d times; want 502, %d, %d", res.StatusCode, b.asked, b.taken[body], row.asked, row.taken)
				}
			})
		}
	}
}

// TestAnotherBackendGetsWhatOneHasNotTaken, although it is a POST.
func TestAnotherBackendGetsWhatOneHasNotTaken(t *testing.T) {
	busy := &framer{told: func(int) fate { return refused }}
	good := handle2(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, readAll(t, r)) })
	p := poolOf(busy.listen(t, nil), good)
	p.HTTP2 = true
	f := one(t, p)
	for range 4 {
		if res, body := f.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"); res.StatusCode != 200 || body != "body" {
			t.Errorf("status %d, body %q", res.StatusCode, body)
		}
	}
	if f.Stats().Retries == 0 {
		t.Error("the busy backend was not asked")
	}
}

// TestFramesInPieces has a connection come byte by byte.
func TestFramesInPieces(t *testing.T) {
	var wire bytes.Buffer
	x := http2.NewFramer(&wire, nil)
	wrong := []byte{0, 0, 4, typeReset, 0, 0, 0, 0, 1, 0, 0, 0, protocolError} // as the content of a frame
	for _, err := range []error{
		x.WriteSettings(), x.WriteData(1, false, wrong), x.WriteData(1, false, nil),
		x.WriteRSTStream(1, http2.ErrCodeCancel), x.WriteRSTStream(3, http2.ErrCodeRefusedStream),
		x.WriteGoAway(1, http2.ErrCodeProtocol, wrong), x.WriteRSTStream(5, http2.ErrCodeProtocol),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int{1, 2, 5, 9, 13, wire.Len()} {
		var f frames
		for rest := wire.Bytes(); len(rest) > 0; {
			n := min(size, len(rest))
			f.look(rest[:n])
			if rest = rest[n:]; f.malformed.Load() != (len(rest) == 0) {
				t.Errorf("pieces of %d bytes, %d left: called wrong: %t", size, len(rest), f.malformed.Load())
			}
		}
	}
}
