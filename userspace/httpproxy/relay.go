package httpproxy

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"

	"fairlead/userspace/accesslog"
	"fairlead/userspace/model"
)

// relay moves requests and answers, all of them.
var relay = &httputil.ReverseProxy{
	Rewrite:        rewrite,
	Transport:      roundTrip{},
	ModifyResponse: modify,
	ErrorHandler:   failed,
	BufferPool:     &moving,
	ErrorLog:       log.New(io.Discard, "", 0), // clients and backends that break off are counted
}

// rewrite makes the request for a backend; its URL is the attempt's to say.
func rewrite(r *httputil.ProxyRequest) {
	r.Out.Host = r.In.Host
	r.Out.Trailer = r.In.Trailer // the same map: it fills when the body ends
	if strings.EqualFold(r.Out.Header.Get("Upgrade"), "h2c") {
		// No backend may be led to speak what is not looked at (RFC 9113, section 3.1).
		for _, name := range []string{"Upgrade", "Connection", "Http2-Settings"} {
			r.Out.Header.Del(name)
		}
	}
	x := exchangeOf(r.In.Context())
	setForwarded(x, r.Out.Header)
	x.w.note.tells(r.Out.Header)
	for _, change := range x.prepare {
		change(r.Out)
	}
}

// modify sees every answer before the client does.
func modify(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	x.w.cookie = x.newCookie()
	if res.StatusCode == http.StatusSwitchingProtocols {
		defer x.attempt.end()
		if x.w.cookie != "" {
			res.Header.Add("Set-Cookie", x.w.cookie)
		}
		return x.tunnel(res)
	}
	for _, change := range slices.Backward(x.revise) {
		change(res)
	}
	if _, ok := res.Header["Content-Type"]; !ok {
		x.w.Header()["Content-Type"] = nil // or the server would guess one
	}
	if len(res.Trailer) > 0 && x.in.ProtoMajor == 1 {
		res.Header.Del("Content-Length") // or there would be no place for trailers
	}
	// What a backend has said is for the client to know. But an answer that is all
	// header must stay in one piece: that is how gRPC says what has failed.
	x.w.eager = res.ContentLength != 0
	x.w.patient = x.attempt.line != nil && isAlone(res)
	x.answered.Store(true)
	return nil
}

// isAlone reports whether nobody but who reads the answer writes it to the client:
// a ReverseProxy flushes others with a timer.
func isAlone(res *http.Response) bool {
	return res.ContentLength > 0 && !strings.Contains(strings.ToLower(res.Header.Get("Content-Type")), "event-stream")
}

// failed answers a request that no backend did.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	switch {
	case errors.Is(err, errTunnelled):
	case errors.Is(err, errKilled):
		panic(http.ErrAbortHandler)
	case errors.Is(err, errNoBackend), errors.Is(err, errBusy):
		x.proxy.noBackend.Add(1)
		if errors.Is(err, errBusy) {
			x.w.note.ends(accesslog.Agent, accesslog.Limit)
		}
		refuse(w, http.StatusServiceUnavailable)
	case errors.Is(err, errConnectLate), errors.Is(err, errAnswerLate), errors.Is(err, errRequestLate), errors.Is(err, errIdle):
		refuse(w, http.StatusGatewayTimeout)
	case errors.Is(err, errBodyLate):
		refuse(w, http.StatusRequestTimeout)
	case errors.Is(err, errBodyLarge):
		refuse(w, http.StatusRequestEntityTooLarge)
	case errors.Is(err, errPath):
		refuse(w, http.StatusBadRequest)
	case r.Context().Err() == nil && x.body != nil && x.body.broken.Load():
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // nobody knows where the next request begins
		}
		refuse(w, http.StatusBadRequest)
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // the client is gone
	default:
		if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
			x.missed = true
			x.proxy.noBackend.Add(1)
		}
		x.proxy.log().Debug("request failed", "client", x.peer, "pool", x.pool.set.Load().conf.Name, "err", err)
		refuse(w, http.StatusBadGateway)
	}
}

// limitTime bounds the whole of a request.
func limitTime(r *model.Route, next http.Handler) http.Handler {
	limit := r.Timeouts.Request
	if limit == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithCancelCause(req.Context())
		defer cancel(nil)
		var late watch
		late.call(func(cause error) {
			cancel(cause)
			exchangeOf(ctx).interrupt()
		})
		late.arm(limit, errRequestLate)
		defer late.stop()
		next.ServeHTTP(w, req.WithContext(ctx))
	})
}

// moving are the buffers that bodies are moved with.
var moving buffers

type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(p []byte) { b.pool.Put((*[bufferSize]byte)(p)) }
