package admin

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestOddPathsAreNoMethods sends what only means a method, in raw frames, in the
// name of somebody who may write.
func TestOddPathsAreNoMethods(t *testing.T) {
	const method = "/fairlead.admin.v1.Admin/SetWeight"
	w := serve(t)
	if code := rawCall(t, w.socket, fields("POST", method)); code != "0" {
		t.Fatalf("the method itself answers %q, want 0", code)
	}
	if n := len(w.plane.asked()); n != 1 {
		t.Fatalf("%d changes, want 1", n)
	}
	rows := map[string][]hpack.HeaderField{
		"no path":              {{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a"}},
		"two paths":            append(fields("POST", "/fairlead.admin.v1.Admin/GetStatus"), hpack.HeaderField{Name: ":path", Value: method}),
		"authority form":       {{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: "fairlead.admin.v1.Admin"}},
		"connect with a path":  fields("CONNECT", method),
		"extended connect":     append(fields("CONNECT", method), hpack.HeaderField{Name: ":protocol", Value: "websocket"}),
		"get":                  fields("GET", method),
		"options":              fields("OPTIONS", method),
		"method in small":      fields("post", method),
		"path as another name": append(fields("POST", "/x"), hpack.HeaderField{Name: "x-original-url", Value: method}, hpack.HeaderField{Name: "x-http-method-override", Value: "POST"}),
	}
	for _, path := range []string{
		"", "/", "*", "//", "/" + method, method + "/", method + "//", method + "?", method + "?x=1", method + "#x", method + ";x", method + " ", " " + method,
		method + "\t", method + "%00", method + "%20", method[1:], strings.ToLower(method), strings.ToUpper(method), "/fairlead.admin.v1.admin/SetWeight",
		"/fairlead.admin.v1.Admin//SetWeight", "/fairlead.admin.v1.Admin/./SetWeight", "/./fairlead.admin.v1.Admin/SetWeight", "/x/.." + method,
		"/fairlead.admin.v1.Admin/GetStatus/../SetWeight", "/fairlead.admin.v1.Admin/Set%57eight", "/fairlead.admin.v1.Admin%2FSetWeight",
		"/fairlead%2Eadmin.v1.Admin/SetWeight", "%2Ffairlead.admin.v1.Admin/SetWeight", `\fairlead.admin.v1.Admin\SetWeight`, "http://a" + method, "//a" + method,
		"/fairlead.admin.v1.Admin/SetWeight\x00", "/fairlead.admin.v1.Admin/SetWeight\xff", "/fairlead.admin.v1.Admin/GetStatus,SetWeight", "/Admin/SetWeight",
		"/fairlead.admin.v1.Admin", "/fairlead.admin.v1.Admin/", "/fairlead.admin.v2.Admin/SetWeight", "/grpc.health.v1.Health/SetWeight",
	} {
		rows["path "+path] = fields("POST", path)
	}
	for name, header := range rows {
		if code := rawCall(t, w.socket, header); code == "0" || code == "200" {
			t.Errorf("%s: answered %q", name, code)
		}
		if asked := w.plane.asked(); len(asked) != 0 {
			t.Errorf("%s: asked %+v", name, asked)
		}
	}
}

func fields(method, path string) []hpack.HeaderField {
	return []hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "fairlead"}, {Name: ":path", Value: path},
	}
}

// rawCall sends a request of gRPC and returns its status: that of gRPC, or of HTTP if
// there is none, or what ended the stream or the connection.
func rawCall(t *testing.T, socket string, header []hpack.HeaderField) string {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil { // if nothing comes
		t.Fatal(err)
	}
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range append(header, hpack.HeaderField{Name: "content-type", Value: "application/grpc+proto"}, hpack.HeaderField{Name: "te", Value: "trailers"}) {
		if err := e.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	// The server may have ended the connection before all is written.
	_ = f.WriteSettings()
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	_ = f.WriteData(1, true, make([]byte, 5))
	return answerOf(f)
}

func answerOf(f *http2.Framer) string {
	status := ""
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return "connection: " + err.Error()
		}
		switch x := frame.(type) {
		case *http2.GoAwayFrame:
			return "goaway: " + x.ErrCode.String()
		case *http2.RSTStreamFrame:
			return "reset: " + x.ErrCode.String()
		case *http2.MetaHeadersFrame:
			for _, h := range x.Fields {
				switch h.Name {
				case "grpc-status":
					return h.Value
				case ":status":
					status = h.Value
				}
			}
			if x.StreamEnded() {
				return status
			}
		case *http2.DataFrame:
			if x.StreamEnded() {
				return status
			}
		}
	}
}

// TestOddRequestLinesAreNoMethods is the same in HTTP/1.
func TestOddRequestLinesAreNoMethods(t *testing.T) {
	const method = "/fairlead.admin.v1.Admin/SetWeight"
	w := serve(t)
	for _, line := range []string{
		"POST http://fairlead" + method, "POST /" + method, "POST " + method + "/", "POST " + method + "?a", "POST /fairlead.admin.v1.Admin/Set%57eight",
		"POST fairlead" + method, "GET " + method, "CONNECT fairlead:80", "CONNECT " + method, "OPTIONS *", "POST *", "HEAD " + method,
	} {
		c, err := net.Dial("unix", w.socket)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(c, line+" HTTP/1.1\r\nHost: fairlead\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if strings.HasPrefix(string(answer), "HTTP/1.1 200") || len(w.plane.asked()) != 0 {
			t.Errorf("%s: %s", line, answer)
		}
		c.Close()
	}
}
