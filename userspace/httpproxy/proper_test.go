package httpproxy

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"fairlead/userspace/model"
)

// ask2 sends a request of HTTP/2, with a body unless that is empty, and returns the
// status of the answer, or "" if the stream is reset.
func (f *front) ask2(body string, header ...string) string {
	f.t.Helper()
	c, _ := f.dial()
	x := http2.NewFramer(c, c)
	x.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		f.t.Fatal(err)
	}
	_ = x.WriteSettings() // what does not arrive has no answer
	_ = x.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(header...), EndHeaders: true, EndStream: body == ""})
	if body != "" {
		_ = x.WriteData(1, true, []byte(body))
	}
	for {
		switch frame, err := x.ReadFrame(); frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return ""
		default:
			if err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

// improper are requests that net/http lets pass, although they cannot be sent on and
// still say the same.
var improper = map[string][]string{
	"a method that is no token":         {":method", "G ET", ":path", "/", ":authority", "a"},
	"a method with a path":              {":method", "GET / HTTP/1.1", ":path", "/", ":authority", "a"},
	"a blank in the path":               {":method", "GET", ":path", "/ HTTP/1.0", ":authority", "a"},
	"a blank in the query":              {":method", "GET", ":path", "/?a b", ":authority", "a"},
	"a fragment":                        {":method", "GET", ":path", "/a#/../b", ":authority", "a"},
	"a path of another kind":            {":method", "GET", ":path", "*", ":authority", "a"},
	"a path of another scheme":          {":method", "GET", ":path", "ftp://a/b", ":authority", "a"},
	"a slash in the host":               {":method", "GET", ":path", "/b", ":authority", "a/x"},
	"a blank in the host":               {":method", "GET", ":path", "/", ":authority", "a b"},
	"a host beyond ASCII":               {":method", "GET", ":path", "/", ":authority", "\xe4"},
	"two hosts":                         {":method", "GET", ":path", "/", ":authority", "a", "host", "b"},
	"a length that is no number":        {":method", "POST", ":path", "/", ":authority", "a", "content-length", "five"},
	"two lengths":                       {":method", "POST", ":path", "/", ":authority", "a", "content-length", "5", "content-length", "4"},
	"the name of a trailer is no token": {":method", "POST", ":path", "/", ":authority", "a", "trailer", "a b"},
}

func TestImproperRequestsOfHTTP2AreRefused(t *testing.T) {
	b := take(t, say("ok"))
	h := everything(usual)
	h.Routes[0].RequestHeaders.Set = []model.Header{{Name: "X-A", Value: "b"}}
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(b.addr())})
	for name, header := range improper {
		body := map[bool]string{true: "hello"}[header[1] == "POST"]
		if status := f.ask2(body, append([]string{":scheme", "http"}, header...)...); status != "400" && status != "" {
			t.Errorf("%s: status %q", name, status)
		}
	}
	if s := f.pools["main"].Stats()[0]; s.Attempts > 0 || len(b.seen()) > 0 {
		t.Errorf("stats %+v, backend got %q", s, b.seen())
	}
	for _, host := range []string{"a", "A"} {
		if status := f.ask2("", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a", "host", host); status != "200" {
			t.Errorf("status %q with host %q twice", status, host)
		}
	}
	if got := b.seen()[1]; !strings.HasPrefix(got, "GET / HTTP/1.1\r\nHost: a\r\n") {
		t.Errorf("backend got %q", got)
	}
}

func TestImproperRequestsAreRefused(t *testing.T) {
	b := take(t, say("ok"))
	f := one(t, poolOf(b.addr()))
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: a b\r\n\r\n0\r\n\r\n",
		"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /a#/../b HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a/#b HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET mailto:a HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http:/b HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://%e4/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a\"b/ HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		if res, _ := f.ask(request); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: status %d", request, res.StatusCode)
		}
	}
	if s := f.pools["main"].Stats()[0]; s.Attempts > 0 || len(b.seen()) > 0 {
		t.Errorf("stats %+v, backend got %q", s, b.seen())
	}
	if res, _ := f.ask("GET HTTP://a/b HTTP/1.1\r\nHost: a\r\n\r\n"); res.StatusCode != 200 {
		t.Errorf("status %d for a whole URL", res.StatusCode)
	}
}
