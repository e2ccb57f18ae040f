package httpproxy

import (
	"bytes"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"fairlead/userspace/model"
)

// A flooder is a client of HTTP/2 that sends frames as it likes.
type flooder struct {
	net.Conn
	*http2.Framer
	ended  chan struct{}
	goAway *http2.GoAwayFrame // what it ended with, nil if there was none
}

func (f *front) flooder() *flooder {
	f.t.Helper()
	c, _ := f.dial()
	x := &flooder{c, http2.NewFramer(c, c), make(chan struct{}), nil}
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		f.t.Fatal(err)
	}
	if err := x.WriteSettings(); err != nil {
		f.t.Fatal(err)
	}
	go func() {
		defer close(x.ended)
		for {
			frame, err := x.ReadFrame()
			if err != nil {
				return
			}
			if g, ok := frame.(*http2.GoAwayFrame); ok {
				x.goAway = &http2.GoAwayFrame{ErrCode: g.ErrCode}
				return
			}
		}
	}()
	return x
}

// over reports whether the server has ended the connection.
func (x *flooder) over() bool {
	select {
	case <-x.ended:
		return true
	default:
		return false
	}
}

// fields are coded ones of a header.
func fields(all ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(all); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]}) // to memory
	}
	return b.Bytes()
}

var asking = fields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a")

// takeBack makes requests and takes each back at once, until the server ends the
// connection, and lets it come as near as ahead before each. It returns how many.
func (f *front) takeBack(x *flooder, most, ahead int) (n int) {
	for ; n < most && !x.over(); n++ {
		id := uint32(2*n + 1)
		err := x.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: asking, EndHeaders: true, EndStream: true})
		if err == nil {
			err = x.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil {
			return n // it has ended
		}
		eventually(f.t, "the server follows", func() bool { return x.over() || f.Stats().Requests+uint64(ahead) > uint64(n) })
	}
	return n
}

// waiting opens a front whose backend never answers.
func waiting(t *testing.T) *front {
	return one(t, poolOf(handle(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })))
}

func TestWhoTakesBackAllRequestsGetsGOAWAY(t *testing.T) {
	f := waiting(t)
	x := f.flooder()
	if n := f.takeBack(x, 10*leastLeft, 10); n < leastLeft || n == 10*leastLeft {
		t.Errorf("the connection ends after %d requests", n)
	}
	if <-x.ended; x.goAway == nil || x.goAway.ErrCode != http2.ErrCodeNo {
		t.Errorf("the connection ends with %v", x.goAway)
	}
}

func TestRapidResetsEndTheConnection(t *testing.T) {
	const most = 20000
	f := waiting(t)
	x := f.flooder()
	f.takeBack(x, most, most)
	<-x.ended
	eventually(t, "all requests end", func() bool { return f.Stats().Running == 0 })
	if s := f.Stats(); s.Requests > most/4 {
		t.Errorf("%d requests were made", s.Requests)
	}
}

func TestWhoTakesBackSomeRequestsMayGoOn(t *testing.T) {
	f := one(t, poolOf(names(t, "a")))
	x := f.flooder()
	for id := uint32(1); id < 1000; id += 2 {
		if err := x.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: asking, EndHeaders: true, EndStream: true}); err != nil {
			t.Fatal(err)
		}
		want := uint64(id+1) / 2
		if id%5 == 0 {
			if err := x.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
				t.Fatal(err)
			}
			continue
		}
		eventually(t, "the requests end", func() bool { s := f.Stats(); return s.Running == 0 && s.Requests+100 > want })
	}
	if x.over() {
		t.Error("the connection has ended")
	}
}

func TestEndlessHeadersEndTheConnection(t *testing.T) {
	f := one(t, poolOf(names(t, "a")))
	x := f.flooder()
	if err := x.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: asking, EndStream: true}); err != nil {
		t.Fatal(err)
	}
	const most = 64 << 20
	more := fields("x-a", strings.Repeat("x", 1000))
	sent := 0
	for sent < most && !x.over() {
		if err := x.WriteContinuation(1, false, more); err != nil {
			break // it has ended
		}
		sent += len(more)
	}
	<-x.ended
	if sent >= most {
		t.Errorf("the connection goes on after %d bytes", sent)
	}
	if f.Stats().Requests != 0 {
		t.Error("it counts as a request")
	}
}

// TestWhoTakesNothingOfHTTP2IsBrokenOff: to end its streams would have to be written.
func TestWhoTakesNothingOfHTTP2IsBrokenOff(t *testing.T) {
	limits := usual
	limits.Idle = short
	h := everything(limits)
	h.Bounds.KeepAlive = 10 * short
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(handle(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}))})
	c, _ := f.dial()
	x := http2.NewFramer(c, c)
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	const room = 1<<31 - 1
	for _, err := range []error{
		x.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: room}),
		x.WriteWindowUpdate(0, room-1<<16),
		x.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: asking, EndHeaders: true, EndStream: true}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the request ends", func() bool { s := f.Stats(); return s.Requests == 1 && s.Running == 0 })
	eventually(t, "its place is free", func() bool { return f.pools["main"].Stats()[0].Running == 0 })
}
