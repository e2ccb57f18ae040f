package httpproxy

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A line is a connection to a backend. It has what the client was not sent yet sent
// before anybody waits for the backend, so that what has come at once goes out at
// once, and nothing is kept from the client.
type line struct {
	*net.TCPConn
	reader atomic.Pointer[counted] // of the answer whose body is being read
	// promised is how long the backend keeps the connection without a request; 0 if
	// it does not say.
	promised atomic.Int64
}

// early is how long before its end a connection is not used any more: the backend
// begins to count before the proxy does.
const early = time.Second

// promise notes what an answer says of how long the backend keeps the connection
// (Keep-Alive, which RFC 2068, section 19.7.1, has).
func (l *line) promise(h http.Header) {
	for p := range strings.SplitSeq(h.Get("Keep-Alive"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if n, err := strconv.ParseUint(value, 10, 31); err == nil && strings.EqualFold(name, "timeout") {
			l.promised.Store(int64(n) * int64(time.Second))
		}
	}
}

// isOver reports whether a connection that was idle for so long is not to be used any
// more, by what the backend says.
func (l *line) isOver(idle time.Duration) bool {
	most := time.Duration(l.promised.Load())
	return most > 0 && idle > most-early
}

// hasEnded reports whether the backend has closed an idle connection, or sent what
// nobody has asked for, though nobody has read it yet.
func (l *line) hasEnded() bool {
	raw, err := l.SyscallConn()
	if err != nil {
		return true
	}
	var n int
	failed := raw.Control(func(fd uintptr) { // and not Read, which the transport waits in
		n, _, err = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return failed != nil || n > 0 || !errors.Is(err, unix.EAGAIN)
}

// lineOf returns the line that a request of HTTP/1 has got, nil if it is another
// kind of connection.
func lineOf(got httptrace.GotConnInfo) *line {
	c := got.Conn
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	l, _ := c.(*line)
	return l
}

// Read waits for the backend.
func (l *line) Read(p []byte) (int, error) {
	if w := l.reader.Swap(nil); w != nil {
		w.push()
	}
	return l.TCPConn.Read(p)
}

// leave must be called before the line waits for something else than the answer for
// the client of w.
func (l *line) leave(w *counted) { l.reader.CompareAndSwap(w, nil) }

// letGo bounds how long the client may take for what is held: it goes out while the
// attempt looks to that, but over HTTP/2 together with the end of the answer.
func (x *exchange) letGo() {
	switch {
	case !x.w.patient || !x.w.held:
	case x.in.ProtoMajor == 1:
		x.w.push()
	case x.timeouts.Idle > 0:
		_ = http.NewResponseController(x.w.ResponseWriter).SetWriteDeadline(time.Now().Add(x.timeouts.Idle))
	}
}
