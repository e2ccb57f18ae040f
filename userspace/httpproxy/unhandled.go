package httpproxy

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
	"time"

	"fairlead/userspace/accesslog"
)

// Whose the next is that is written to a client of HTTP/1.
const (
	ofServer  uint32 = iota // of net/http: it refuses what has come
	ofHandler               // of a handler, which counts it
	ofNobody                // it is not looked at any more
)

// A handled connection wants to know when handlers answer.
type handled interface {
	handle(version int)
	answered()
}

// handle notes that a handler has a request, of this version of HTTP.
func (c *guarded) handle(version int) {
	if version == 1 {
		c.whose.Store(ofHandler)
	} else {
		c.whose.Store(ofNobody)
	}
}

// answered notes that all requests so far are.
func (c *guarded) answered() { c.whose.CompareAndSwap(ofHandler, ofServer) }

// Write counts an answer that no handler has made. The first bytes of HTTP/2 are none.
func (c *guarded) Write(p []byte) (int, error) {
	if c.whose.Load() == ofServer {
		c.whose.Store(ofNobody)
		c.proxy.unhandled(c, p, c.bad)
	}
	return c.Conn.Write(p)
}

// unhandled counts and logs what net/http answers by itself, after which the connection
// ends. counted says that it is counted as malformed. How long it took is not known.
func (p *Proxy) unhandled(c net.Conn, answer []byte, counted bool) {
	status := writtenStatus(answer)
	if status == 0 {
		return
	}
	p.requests.Add(1)
	p.answers.add(status)
	if status == http.StatusBadRequest && !counted {
		p.malformed.Add(1)
	}
	if p.Access == nil {
		return
	}
	if add := p.Access(); add != nil {
		peer := c.RemoteAddr().String()
		_, body, _ := bytes.Cut(answer, []byte("\r\n\r\n"))
		add(&accesslog.Record{
			Began: time.Now(), Protocol: "http", Client: peer, Peer: peer,
			Status: status, BytesOut: uint64(len(body)), Ending: endingOf(status),
		})
	}
}

// writtenStatus returns the status of an answer of HTTP/1, 0 if it is none.
func writtenStatus(answer []byte) int {
	const before, digits = len("HTTP/1.1 "), 3
	if len(answer) < before+digits || !bytes.HasPrefix(answer, []byte("HTTP/1.")) {
		return 0
	}
	status, _ := strconv.Atoi(string(answer[before : before+digits]))
	return status
}
