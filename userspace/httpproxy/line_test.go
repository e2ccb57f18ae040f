package httpproxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"fairlead/testenv/testca"
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
