package httpproxy

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/userspace/model"
)

// Bounds of a copy of a request.
const (
	mirrorTime   = time.Minute // until its answer has begun and was dropped
	mirrorAnswer = 1 << 20     // how much of that is read, so that the connection can be used again
)

// beside is what runs beside the requests of a Serve call, which may end before.
type beside struct {
	ctx     context.Context
	running sync.WaitGroup // grows only while a request runs
}

type besideKey struct{}

// mirror has copies of requests sent to another pool when all of them has gone to
// a backend. Nothing waits for that: what cannot be copied is dropped.
func mirror(rule *model.Mirror, to *Pool, next http.Handler) http.Handler {
	places := make(chan struct{}, rule.Most)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Upgrade") != "" || rule.Percent < 100 && rand.IntN(100) >= rule.Percent {
			next.ServeHTTP(w, req)
			return
		}
		x := exchangeOf(req.Context())
		select {
		case places <- struct{}{}:
		default:
			x.proxy.mirrorDrops.Add(1)
			next.ServeHTTP(w, req)
			return
		}
		m := &copying{x: x, pool: to, left: rule.MaxBody, release: func() { <-places }}
		defer m.drop() // unless it was sent
		x.prepare = append(x.prepare, m.follow)
		next.ServeHTTP(w, req)
	})
}

// A copying collects a request and sends it to another pool.
type copying struct {
	x       *exchange
	pool    *Pool
	out     *http.Request
	left    int // bytes of body that may come yet
	body    []byte
	over    atomic.Bool // it was sent or dropped
	release func()
}

// follow begins with what backends get.
func (m *copying) follow(out *http.Request) {
	m.out = out.Clone(context.WithoutCancel(out.Context()))
	m.out.Body, m.out.Trailer, m.out.TransferEncoding = nil, nil, nil
	m.out.Header.Del("Expect")
	if _, ok := m.out.Header["User-Agent"]; !ok {
		m.out.Header.Set("User-Agent", "") // or there would be one of Go's
	}
	switch {
	case out.Body == nil:
		m.send()
	case out.ContentLength > int64(m.left):
		m.drop()
	default:
		out.Body = &followed{out.Body, m}
	}
}

// A followed body is copied as it is read.
type followed struct {
	io.ReadCloser
	copying *copying
}

func (f *followed) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	m := f.copying
	switch {
	case m.over.Load():
	case n > m.left || err != nil && err != io.EOF:
		m.drop()
	default:
		m.left -= n
		m.body = append(m.body, p[:n]...)
		if err == io.EOF || int64(len(m.body)) == m.out.ContentLength {
			m.send()
		}
	}
	return n, err
}

// drop gives the copy up.
func (m *copying) drop() {
	if m.over.CompareAndSwap(false, true) {
		m.x.proxy.mirrorDrops.Add(1)
		m.release()
	}
}

// send sends the copy, which is whole, beside the request.
func (m *copying) send() {
	if !m.over.CompareAndSwap(false, true) {
		return
	}
	x := m.x
	own := &exchange{
		proxy: &Proxy{Log: x.proxy.Log}, w: &counted{ResponseWriter: &statusTaker{}, counters: &counters{}}, in: x.in, path: x.path,
		peer: x.peer, local: x.local, client: x.client, timeouts: x.timeouts, pool: m.pool,
	}
	at := x.in.Context().Value(besideKey{}).(*beside)
	x.proxy.mirrored.Add(1)
	at.running.Go(func() {
		defer m.release()
		ctx, cancel := context.WithTimeout(context.WithValue(at.ctx, exchangeKey{}, own), mirrorTime)
		defer cancel()
		own.ctx = ctx
		req := m.out.WithContext(ctx)
		req.ContentLength = int64(len(m.body))
		if req.ContentLength > 0 {
			req.Body = io.NopCloser(bytes.NewReader(m.body))
		}
		res, err := roundTrip{}.RoundTrip(req)
		if err != nil {
			return // the pool's concern
		}
		defer own.attempt.end() // a change of the protocol, that nobody asked for, does not
		if res.StatusCode != http.StatusSwitchingProtocols {
			_, _ = io.CopyN(io.Discard, res.Body, mirrorAnswer)
		}
		res.Body.Close()
	})
}
