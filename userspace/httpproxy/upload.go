package httpproxy

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// An upload is the body of a request of HTTP/1, which may still come when the answer
// does. A nil one is no body, or of HTTP/2, where streams do not concern each other.
//
// By default net/http takes a part of the body itself before the answer leaves: what a
// backend gets would have a hole. Without that it is ours to see that what is left of
// a body is not taken for the next request.
type upload struct {
	io.ReadCloser
	w     http.ResponseWriter
	r     *http.Request
	begun atomic.Bool // somebody has asked for it
	ended atomic.Bool
	// unasked says that the client waits to be asked for it, and will not be.
	unasked bool
}

// largeUpload is how much of a body is not worth waiting for, so that the connection
// can be used again.
const largeUpload = 256 << 10

// receive returns the upload of a request.
func receive(w http.ResponseWriter, r *http.Request) *upload {
	if r.ProtoMajor != 1 || r.ContentLength == 0 {
		return nil
	}
	_ = http.NewResponseController(w).EnableFullDuplex() // a server of HTTP/1 can
	return &upload{ReadCloser: r.Body, w: w, r: r}
}

func (u *upload) Read(p []byte) (int, error) {
	u.begun.Store(true)
	n, err := u.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		u.ended.Store(true)
	}
	return n, err
}

// leave leaves the rest to a connection that changes its protocol.
func (u *upload) leave() {
	if u != nil {
		u.ended.Store(true)
	}
}

// finish takes what is left of a small one once the request is answered, for so long.
// Otherwise the connection ends, but not before the client had as long to send the rest:
// an answer that does not say its length ends only when this returns.
func (u *upload) finish(limit time.Duration) {
	if u == nil || u.ended.Load() {
		return
	}
	c := http.NewResponseController(u.w)
	_ = c.SetReadDeadline(time.Now().Add(limit)) // who is gone is found by what follows
	if u.isSmall() {
		if u.w.Header().Get("Content-Length") != "" {
			_ = c.Flush()
		}
		if _, err := io.Copy(io.Discard, u); err == nil {
			return
		}
	}
	if conn, ok := u.r.Context().Value(connKey{}).(lingerer); ok {
		conn.linger(limit)
	}
	// A body that is too long is how a server is told so when the header has left.
	_, _ = http.MaxBytesReader(u.w, io.NopCloser(strings.NewReader("x")), 0).Read(make([]byte, 1))
}

// isSmall reports whether a client sends a body that is soon there.
func (u *upload) isSmall() bool {
	return !u.unasked && 0 < u.r.ContentLength && u.r.ContentLength <= largeUpload
}

// answer notes that the header of the answer leaves, and reports whether the client is
// better told to end the connection than to send what is left.
func (u *upload) answer() (last bool) {
	if u == nil || u.ended.Load() {
		return false
	}
	u.unasked = !u.begun.Load() && httpguts.HeaderValuesContainsToken(u.r.Header["Expect"], "100-continue")
	return !u.isSmall()
}
