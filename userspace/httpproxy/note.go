package httpproxy

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"fairlead/userspace/accesslog"
	"fairlead/userspace/tracing"
)

// A note is what the access log and the trace are told of a request. A nil one is of a
// request that nobody asks about, or that is not a client's.
type note struct {
	add  func(*accesslog.Record) // nil without a log
	span *tracing.Span           // nil without a trace
	run  context.Context         // done when requests are broken off
	in   *http.Request           // of the client
	x    *exchange               // nil if the request did not come so far

	began            time.Time
	asked, connected atomic.Int64 // when the last attempt wanted a connection, and had one; in ns
	queue, firstByte time.Duration
	retries          int
	bytesIn          atomic.Uint64
	bytesOut         atomic.Uint64
	requestID        string
	gone             atomic.Bool // the client takes nothing more
	tunnelled        bool
	ended            atomic.Pointer[accesslog.Ending] // the first that was noted
}

// note begins one of a request, and counts its body.
func (p *Proxy) note(run context.Context, r *http.Request) *note {
	var add func(*accesslog.Record)
	if p.Access != nil {
		add = p.Access()
	}
	var span *tracing.Span
	if p.Trace != nil {
		t := p.table.Load()
		span = p.Trace(r, t != nil && t.trusts(addrPort(r.RemoteAddr).Addr()))
	}
	if add == nil && span == nil {
		return nil
	}
	n := &note{add: add, span: span, run: run, in: r, began: time.Now()}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &notedBody{r.Body, n}
	}
	return n
}

// A notedBody counts what a client sends.
type notedBody struct {
	io.ReadCloser
	note *note
}

func (b *notedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.note.bytesIn.Add(uint64(n))
	return n, err
}

// tells writes into the header of a request to a backend of which trace it is.
func (n *note) tells(h http.Header) {
	if n != nil && n.span != nil {
		n.span.Tell(h)
	}
}

func (n *note) identified(id string) {
	if n != nil {
		n.requestID = id
	}
}

func (n *note) waited(d time.Duration) {
	if n != nil {
		n.queue += d
	}
}

func (n *note) retried() {
	if n != nil {
		n.retries++
	}
}

// asks is when an attempt wants a connection, connects when it has one, and answered
// when the header of its answer has come.
func (n *note) asks() {
	if n != nil {
		n.asked.Store(int64(time.Since(n.began)))
	}
}

func (n *note) connects() {
	if n != nil {
		n.connected.Store(int64(time.Since(n.began)))
	}
}

func (n *note) answered() {
	if n != nil {
		n.firstByte = time.Since(n.began) - time.Duration(n.connected.Load())
	}
}

// wrote counts a part of the answer.
func (n *note) wrote(k int, err error) {
	if n == nil {
		return
	}
	n.bytesOut.Add(uint64(k))
	if err != nil {
		n.gone.Store(true)
	}
}

// moved counts bytes of a changed protocol, from the client or to it.
func (n *note) moved(up bool, k int) {
	switch {
	case n == nil:
	case up:
		n.bytesIn.Add(uint64(k))
	default:
		n.bytesOut.Add(uint64(k))
	}
}

// ends notes who has ended the request, unless that is known.
func (n *note) ends(by accesslog.Party, reason accesslog.Reason) {
	if n != nil {
		n.ended.CompareAndSwap(nil, &accesslog.Ending{By: by, Reason: reason})
	}
}

// end tells the log and the trace. broken says that the answer was broken off.
func (n *note) end(w *counted, broken bool) {
	if n == nil {
		return
	}
	r := &accesslog.Record{
		Began: n.began, Protocol: "http", Client: n.in.RemoteAddr, Peer: n.in.RemoteAddr, Method: n.in.Method, Host: n.in.Host, Path: n.in.RequestURI, Version: n.in.Proto,
		UserAgent: n.in.UserAgent(), Referer: n.in.Referer(), RequestID: n.requestID, Status: w.status, Retries: n.retries,
		Queue: n.queue, Connect: max(0, time.Duration(n.connected.Load()-n.asked.Load())), FirstByte: n.firstByte, Total: time.Since(n.began),
		BytesIn: n.bytesIn.Load(), BytesOut: n.bytesOut.Load(), Ending: n.ending(w, broken),
	}
	if n.tunnelled {
		r.Status = http.StatusSwitchingProtocols
	}
	if x := n.x; x != nil {
		if x.client != x.peer.Addr() {
			r.Client = x.client.String()
		}
		if x.pool != nil {
			r.Pool = x.pool.set.Load().conf.GivenName()
		}
		if x.attempt != nil {
			r.Backend = x.attempt.turn.backend.String()
		}
	}
	if n.span != nil {
		r.TraceID = n.span.ID()
		n.span.End(r)
	}
	if n.add != nil {
		n.add(r)
	}
}

// ending returns who has ended the request.
func (n *note) ending(w *counted, broken bool) accesslog.Ending {
	if e := n.ended.Load(); e != nil {
		return *e
	}
	switch {
	case !broken && n.x != nil && n.x.answered.Load():
		return accesslog.Ending{By: accesslog.Backend, Reason: accesslog.Done}
	case !broken && w.status == http.StatusBadGateway && n.x != nil && n.x.missed:
		return accesslog.Ending{By: accesslog.Agent, Reason: accesslog.NoBackend}
	case !broken:
		return endingOf(w.status)
	case n.run.Err() != nil:
		return accesslog.Ending{By: accesslog.Agent, Reason: accesslog.Cut}
	case w.late.Load():
		return accesslog.Ending{By: accesslog.Agent, Reason: accesslog.Timeout}
	case n.gone.Load(), n.in.Context().Err() != nil:
		return accesslog.Ending{By: accesslog.Client, Reason: accesslog.Gone}
	}
	return accesslog.Ending{By: accesslog.Backend, Reason: accesslog.Broken}
}

// endingOf returns who is to blame for an answer of our own.
func endingOf(status int) accesslog.Ending {
	e := accesslog.Ending{By: accesslog.Agent, Reason: accesslog.Done}
	switch status {
	case http.StatusTooManyRequests, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
		e.Reason = accesslog.Limit
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Reason = accesslog.Denied
	case http.StatusBadRequest:
		e = accesslog.Ending{By: accesslog.Client, Reason: accesslog.Malformed}
	case http.StatusRequestTimeout:
		e = accesslog.Ending{By: accesslog.Client, Reason: accesslog.Timeout}
	case http.StatusGatewayTimeout:
		e = accesslog.Ending{By: accesslog.Backend, Reason: accesslog.Timeout}
	case http.StatusBadGateway:
		e = accesslog.Ending{By: accesslog.Backend, Reason: accesslog.Broken}
	case http.StatusServiceUnavailable:
		e.Reason = accesslog.NoBackend
	}
	return e
}
