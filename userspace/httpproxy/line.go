package httpproxy

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// A line is a connection to a backend. It has what the client was not sent yet sent
// before anybody waits for the backend, so that what has come at once goes out at
// once, and nothing is kept from the client.
type line struct {
	*net.TCPConn
	reader atomic.Pointer[counted] // of the answer whose body is being read
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
