package httpproxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"fairlead/testenv/testca"
	"fairlead/userspace/model"
)

// A kind is one of connections to backends.
type kind struct {
	name          string
	secure, http2 bool
}

var (
	lines  = []kind{{"HTTP/1.1", false, false}, {"HTTP/1.1 over TLS", true, false}}
	shared = []kind{{"HTTP/2", false, true}, {"HTTP/2 over TLS", true, true}}
)

// overEach runs a test before a backend for each kind of connection.
func overEach(t *testing.T, kinds []kind, backend http.HandlerFunc, test func(t *testing.T, f *front)) {
	for _, row := range kinds {
		t.Run(row.name, func(t *testing.T) {
			ca := testca.New(t)
			s := httptest.NewUnstartedServer(backend)
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetHTTP1(!row.http2)
			s.Config.Protocols.SetHTTP2(row.http2)
			s.Config.Protocols.SetUnencryptedHTTP2(row.http2)
			s.EnableHTTP2 = row.http2
			if row.secure {
				s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Pair("127.0.0.1")}}
				s.StartTLS()
			} else {
				s.Start()
			}
			t.Cleanup(s.Close)
			conf := poolOf(s.URL)
			conf.HTTP2 = row.http2
			f := one(t, conf)
			f.pools["main"].UseTLS(&tls.Config{RootCAs: ca.Pool()})
			test(t, f)
		})
	}
}

func TestTheHeaderOfAnAnswerDoesNotWaitForItsBody(t *testing.T) {
	var goOn chan struct{}
	overEach(t, slices.Concat(lines, shared), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "6")
		for _, part := range []string{"", "one", "two"} {
			_, _ = io.WriteString(w, part)
			_ = http.NewResponseController(w).Flush()
			<-goOn
		}
	}, func(t *testing.T, f *front) {
		goOn = make(chan struct{})
		defer close(goOn)
		client := http.Client{Transport: &http.Transport{}, Timeout: patience}
		defer client.CloseIdleConnections()
		res, err := client.Get("http://" + f.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		for _, want := range []string{"one", "two"} {
			goOn <- struct{}{}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
				t.Fatalf("%q, %v; want %q", got, err, want)
			}
		}
	})
}

func TestAnAnswerThatHasComeGoesOutInOnePiece(t *testing.T) {
	overEach(t, lines, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL) }, func(t *testing.T, f *front) {
		c, _ := f.dial()
		buf := make([]byte, 4096)
		for i := range 100 {
			fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: example.com\r\n\r\n", i)
			n, err := c.Read(buf)
			if want := fmt.Sprintf("\r\n\r\n/%d", i); err != nil || !bytes.HasSuffix(buf[:n], []byte(want)) {
				t.Fatalf("%q, %v; want all to %q", buf[:n], err, want)
			}
		}
	})
}

// hasty is a front whose clients may be silent for a short time only.
func hasty(t *testing.T, answer string) *front {
	h := everything(model.HTTPTimeouts{Connect: patience, FirstByte: patience, Idle: short})
	return serve(t, h, map[string]*model.Pool{"main": poolOf(take(t, say(answer)).addr())})
}

func TestWhoDoesNotTakeTheEndOfAnAnswerIsBrokenOff(t *testing.T) {
	f := hasty(t, strings.Repeat("x", 3000)) // as much as a server keeps back
	c, _ := f.dial()
	go func() {
		for {
			if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")); err != nil {
				return
			}
		}
	}()
	eventually(t, "the connection ends", func() bool { return f.Stats().Requests > 0 && f.Stats().Active == 0 })
}

func TestWhoGivesNoWindowForAnAnswerIsBrokenOff(t *testing.T) {
	c, _ := hasty(t, "ok").dial()
	fmt.Fprint(c, http2.ClientPreface)
	x := http2.NewFramer(c, c)
	err := errors.Join(x.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize}),
		x.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: asking, EndHeaders: true, EndStream: true}))
	for err == nil {
		var frame http2.Frame
		if frame, err = x.ReadFrame(); frame != nil && frame.Header().Type == http2.FrameRSTStream {
			return
		}
	}
	t.Errorf("the request does not end: %v", err)
}

// An endedBody notes whether somebody asks for more of it for a client.
type endedBody struct {
	line  *line
	asked []bool
}

func (b *endedBody) Read([]byte) (int, error) {
	b.asked = append(b.asked, b.line.reader.Load() != nil)
	return 0, io.EOF
}

func (b *endedBody) Close() error { return nil }

// TestAnAnswerLeavesItsConnectionAtItsEnd though it may be read once more: by then the
// connection is another request's.
func TestAnAnswerLeavesItsConnectionAtItsEnd(t *testing.T) {
	b := &endedBody{line: &line{}}
	x := &exchange{w: &counted{patient: true, held: true}, timeouts: &model.HTTPTimeouts{}}
	a := &answer{ReadCloser: b, attempt: &attempt{x: x, line: b.line, turn: &turn{set: &set{}}}, of: &http.Response{}}
	for range 2 {
		if n, err := a.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%d, %v", n, err)
		}
	}
	if !slices.Equal(b.asked, []bool{true, false}) {
		t.Errorf("the connection waits for the client: %v", b.asked)
	}
}
