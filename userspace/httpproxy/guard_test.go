package httpproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// handedOn runs a guard over bytes that come in pieces of this size, and returns
// what net/http would get.
func handedOn(sent string, piece int) (got string, ok bool) {
	var g guard
	for len(sent) > 0 {
		n := min(piece, len(sent))
		fine, ok := g.check([]byte(sent[:n]))
		got += sent[:fine]
		if !ok {
			return got, false
		}
		sent = sent[n:]
	}
	return got, true
}

func TestAGuardDoesNotCareHowBytesAreCut(t *testing.T) {
	for _, row := range oddities {
		var first string
		for piece := 1; piece <= len(row.request)+len(inner); piece++ {
			got, ok := handedOn(row.request+inner, piece)
			got = fmt.Sprintf("%q %t", got, ok)
			if piece > 1 && got != first {
				t.Errorf("%s: %s in pieces of %d, %s in single bytes", row.name, got, piece, first)
				break
			}
			first = got
		}
	}
}

func TestAGuardFollowsRequestsToTheirEnds(t *testing.T) {
	for _, row := range oddities {
		fine, ok := handedOn(row.request, len(row.request))
		r := bufio.NewReader(strings.NewReader(fine))
		var err error
		for err == nil {
			var req *http.Request
			if req, err = http.ReadRequest(r); err == nil {
				_, err = io.Copy(io.Discard, req.Body)
			}
		}
		var g guard
		_, _ = g.check([]byte(row.request))
		if len(row.arrives) == 2 && !ok {
			t.Errorf("%s is refused", row.name)
		}
		if ok && errors.Is(err, io.EOF) && g.at != atRequest && g.at != elsewhere {
			t.Errorf("%s: net/http has read all of it, the guard stands at %d", row.name, g.at)
		}
	}
}

// A server that reads ahead must not take what is malformed for the end of the
// request before.
func TestTheRequestBeforeOneThatIsMalformedIsAnswered(t *testing.T) {
	for _, bad := range []string{"\n", "GET / HTTP/1.1\n\n", "\x00\r\n\r\n", "GET / HTTP/1.1\r\nX : y\r\n\r\n"} {
		g := gated(t)
		f := one(t, poolOf(g.addr))
		c, r := f.dial()
		fmt.Fprint(c, "GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
		await(t, g.arrived)
		fmt.Fprint(c, bad)
		g.goOn <- struct{}{}
		if res, body := answerOf(t, r, false); res.StatusCode != 200 || body != "ok" {
			t.Errorf("%q: %d %q of the request before", bad, res.StatusCode, body)
		}
		if res, _ := answerOf(t, r, false); res.StatusCode != 400 || !res.Close {
			t.Errorf("%q: status %d, close %t", bad, res.StatusCode, res.Close)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("%q: %v after it, want the end", bad, err)
		}
		if f.Stats().Malformed != 1 {
			t.Errorf("%q does not count", bad)
		}
	}
}

func BenchmarkGuard(b *testing.B) {
	request := []byte("GET /some/path?query HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n" +
		"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\nAccept-Encoding: gzip, deflate\r\nCookie: a=b; c=d\r\n\r\n")
	var g guard
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := g.check(request); !ok {
			b.Fatal("refused")
		}
	}
}
