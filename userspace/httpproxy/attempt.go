package httpproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// An attempt is one try to have a request answered by one backend.
type attempt struct {
	x      *exchange
	turn   *turn
	began  time.Time
	watch  watch
	line   *line   // of HTTP/1, once connected; may be nil
	shared bool    // others may have the connection, too
	frames *frames // of HTTP/2, once connected; may be nil
	// dropped says that the last connection was not fit for the request, so that
	// nothing of that was sent.
	dropped bool
	ctx     context.Context
	stop    context.CancelCauseFunc
	// connected says that the request has a connection, heard that the backend
	// has sent something.
	connected, heard atomic.Bool
	ended            sync.Once

	mu       sync.Mutex
	answered bool
}

// roundTrip is the [http.RoundTripper] of all requests: it looks for a backend
// that answers.
type roundTrip struct{}

func (roundTrip) RoundTrip(req *http.Request) (*http.Response, error) {
	x := exchangeOf(req.Context())
	conf := &x.pool.set.Load().conf
	x.pool.spare.earn(conf.Retry.Budget)
	if req.Body != nil && req.Body != http.NoBody {
		x.body = newBody(req, conf.HTTP2 || conf.Retry.Attempts > 0 && idempotent(req.Method))
	}
	began := time.Now()
	next, err := x.pool.take(req.Context(), x, nil)
	x.w.note.waited(time.Since(began))
	if err != nil {
		return nil, err
	}
	var tried []*backend
	for {
		a := &attempt{x: x, turn: next, began: time.Now()}
		x.attempt = a
		res, err := a.do(req)
		tried = append(tried, a.turn.backend)
		if next = a.again(req, res, err, tried); next == nil {
			if x.body != nil {
				x.body.forget()
			}
			return res, err
		}
		x.proxy.retries.Add(1)
		x.w.note.retried()
		if res != nil {
			res.Body.Close()
		}
	}
}

// do sends the request and returns what the backend answers. The attempt ends
// with an error, or when the answer's body is closed.
func (a *attempt) do(req *http.Request) (*http.Response, error) {
	a.ctx, a.stop = context.WithCancelCause(a.x.ctx)
	a.watch.call(a.timeUp)
	a.turn.backend.tally.attempts.Add(1)
	a.x.conn.visit(a)
	out := req.WithContext(httptrace.WithClientTrace(a.ctx, a.trace(httptrace.ContextClientTrace(req.Context()))))
	if out.URL = a.turn.backend.address(a.x.path, a.x.in.URL); out.URL == nil {
		a.end()
		return nil, errPath
	}
	res, err := a.send(out)
	a.mu.Lock()
	a.answered = true
	a.watch.arm(a.x.timeouts.Idle, errIdle)
	a.mu.Unlock()
	switch {
	case err != nil && a.ctx.Err() != nil:
		err = context.Cause(a.ctx) // which says why
	case err == nil && res.StatusCode < 100:
		res.Body.Close()
		err = fmt.Errorf("backend answers with status %03d", res.StatusCode)
	}
	a.judge(req, res, err)
	if err != nil {
		a.end()
		return nil, err
	}
	a.x.w.watched = true
	a.turn.hear(res.Header)
	a.turn.hear(res.Trailer)
	switch {
	case res.ProtoMajor != 1:
		a.line = nil // others share it
	case a.line != nil:
		a.line.promise(res.Header)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		res.Body = &answer{ReadCloser: res.Body, attempt: a, of: res}
	}
	return res, nil
}

// send sends the request over a connection that is fit for it.
func (a *attempt) send(out *http.Request) (*http.Response, error) {
	set := a.turn.set
	carrier := set.carriers.of(out)
	a.shared = set.conf.HTTP2 && carrier == set.carriers.usual
	for untaken := 0; ; {
		r := out.WithContext(out.Context()) // another one may still be looked at
		if a.x.body != nil {
			reader, ok := a.x.body.reader(a.touch)
			if !ok {
				return nil, errOvertaken
			}
			r.Body, r.Trailer = reader, reader.trailer
			if a.shared {
				r.GetBody = a.untaken
			}
		}
		a.dropped = false
		res, err := carrier.RoundTrip(r)
		if errors.Is(err, errUntaken) && a.x.body.replayable() && untaken < mostUntaken {
			untaken++
		} else if err == nil || !a.dropped {
			return res, err
		}
		if a.ctx.Err() != nil {
			return res, err
		}
	}
}

// connect notes the connection that the transport has for the request. One of HTTP/1
// that has waited for it may be about to be closed by the backend: then it is given up,
// while nothing was sent. Where net/http would send the request again by itself, it is
// enough that the backend has said how long it waits.
func (a *attempt) connect(got httptrace.GotConnInfo) {
	a.frames, _ = got.Conn.(*frames)
	if a.line = lineOf(got); got.Reused && a.line != nil && !a.shared {
		again := a.x.body == nil && isSafe(a.x.in.Method)
		a.dropped = a.line.isOver(got.IdleTime) || !again && a.line.hasEnded()
	}
	if a.dropped {
		a.line.Close()
		if a.x.body != nil {
			a.x.body.hold()
		}
	}
	a.x.w.note.connects()
	a.connected.Store(true)
	a.watch.arm(a.x.timeouts.Idle, errIdle)
}

// trace returns what follows the attempt, and takes informational answers as outer
// does, which may be nil. Nothing else is taken from there: to join two of them is
// dear.
func (a *attempt) trace(outer *httptrace.ClientTrace) *httptrace.ClientTrace {
	t := a.x.timeouts
	if outer == nil {
		outer = &httptrace.ClientTrace{}
	}
	return &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if removeHopByHop(http.Header(h)); outer.Got1xxResponse == nil {
				return nil
			}
			return outer.Got1xxResponse(code, h)
		},
		GetConn: func(string) { // again, if a connection that waited was closed just now
			a.connected.Store(false)
			a.dropped = false
			a.x.w.note.asks()
			a.watch.arm(t.Connect, errConnectLate)
		},
		GotConn: a.connect,
		WroteRequest: func(httptrace.WroteRequestInfo) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if !a.answered {
				a.watch.arm(t.FirstByte, errAnswerLate)
			}
		},
		GotFirstResponseByte: func() { a.heard.Store(true) },
		PutIdleConn: func(error) {
			if a.line != nil {
				a.line.leave(a.x.w)
			}
		},
	}
}

// timeUp breaks the attempt off.
func (a *attempt) timeUp(cause error) {
	a.stop(cause)
	if !errors.Is(cause, errConnectLate) { // after which there may be another
		a.x.interrupt()
	}
}

// touch notes that a part of a body has moved.
func (a *attempt) touch() { a.watch.arm(a.x.timeouts.Idle, errIdle) }

// end lets go of what the attempt has.
func (a *attempt) end() {
	a.ended.Do(func() {
		a.watch.stop()
		a.x.w.watched = false
		a.stop(nil)
		a.x.conn.depart(a)
		a.turn.end()
	})
}

// judge lets the pool know how the backend has served. What the client or this
// host is to blame for says nothing about it.
func (a *attempt) judge(req *http.Request, res *http.Response, err error) {
	now := time.Now()
	took := now.Sub(a.began)
	if err == nil {
		a.turn.backend.tally.answer(res.StatusCode, took, now)
		a.x.w.note.answered()
	}
	clients := req.Context().Err() != nil || a.x.body != nil && a.x.body.broken.Load()
	switch {
	case err == nil && slices.Contains(a.turn.set.conf.Retry.Statuses, res.StatusCode):
		err = fmt.Errorf("status %d", res.StatusCode)
	case err == nil && res.StatusCode < 500: // who fails is not to look quick
		a.turn.backend.quick.add(took)
	case err == nil:
	case clients || errors.Is(err, errIdle) || errors.Is(err, errOvertaken) || errors.Is(err, errKilled) || isLocal(err):
		return
	}
	a.turn.pool.judge(a.turn, err)
}

// isLocal reports whether an attempt failed for want of something on this host.
func isLocal(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// again returns the turn for another attempt at a backend that was not tried yet,
// nil if there is to be none.
func (a *attempt) again(req *http.Request, res *http.Response, err error, tried []*backend) *turn {
	retry := &a.turn.set.conf.Retry
	if len(tried) > retry.Attempts || req.Context().Err() != nil || a.x.body != nil && !a.x.body.replayable() {
		return nil
	}
	switch {
	case errors.Is(err, errPath), errors.Is(err, errKilled):
		return nil
	case err == nil && !slices.Contains(retry.Statuses, res.StatusCode):
		return nil
	case err != nil && !a.connected.Load(), errors.Is(err, errUntaken): // the backend has got nothing
	case !idempotent(req.Method):
		return nil
	case err != nil && (a.heard.Load() || errors.Is(err, errAnswerLate) || errors.Is(err, errIdle)):
		return nil
	}
	next, none := a.x.pool.take(req.Context(), a.x, tried)
	if none != nil {
		return nil
	}
	if !a.x.pool.spare.spend(time.Now()) {
		next.end()
		return nil
	}
	return next
}

// idempotent reports whether a request may arrive twice (RFC 9110, section 9.2.2).
func idempotent(method string) bool {
	return isSafe(method) || method == http.MethodPut || method == http.MethodDelete
}

// isSafe reports whether a request changes nothing (RFC 9110, section 9.2.1).
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// An answer is the body of a backend's answer.
type answer struct {
	io.ReadCloser
	attempt *attempt
	of      *http.Response
	ended   bool // another request may have the connection
}

func (b *answer) Read(p []byte) (int, error) {
	n, err := b.read(p)
	b.ended = err != nil
	b.attempt.touch()
	if errors.Is(err, io.EOF) {
		b.attempt.turn.hear(b.of.Trailer)
	}
	return n, err
}

func (b *answer) read(p []byte) (int, error) {
	if l, w := b.attempt.line, b.attempt.x.w; w.patient && w.held && !b.ended {
		l.reader.Store(w)
		defer l.leave(w)
	}
	return b.ReadCloser.Read(p)
}

// Close ends the attempt.
func (b *answer) Close() error {
	err := b.ReadCloser.Close()
	b.attempt.x.letGo()
	b.attempt.end()
	return err
}

// interrupt makes reads from the client fail, and writes too if they would not
// say why.
func (x *exchange) interrupt() {
	c, past := http.NewResponseController(x.w), time.Unix(1, 0)
	if u := x.w.upload; x.in.ProtoMajor > 1 || u != nil && !u.ended.Load() {
		_ = c.SetReadDeadline(past) // not possible: its connection is gone or somebody else's
	}
	x.w.late.Store(x.w.begun.Load())
	if x.answered.Load() || x.w.begun.Load() {
		_ = c.SetWriteDeadline(past)
	}
}
