package httpproxy

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"

	"fairlead/userspace/model"
)

// permit refuses clients that may not take a route.
func permit(r *model.Route, next http.Handler) http.Handler {
	if !r.Access.Listed() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !r.Access.Permits(exchangeOf(req.Context()).client) {
			refuse(w, http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// limitRate bounds the requests of each client.
func limitRate(r *model.Route, next http.Handler) http.Handler {
	if r.Rate.Requests == 0 {
		return next
	}
	name := fmt.Sprint(r.Match, r.Clients, r.Headers, r.Query, r.Cookies) // the same after a reload
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if exchangeOf(req.Context()).grants(w, name, r.Rate) {
			next.ServeHTTP(w, req)
		}
	})
}

// limitBody bounds the body of a request, in bytes and in time.
func limitBody(r *model.Route, next http.Handler) http.Handler {
	if r.MaxBody == 0 && r.Timeouts.Body == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.ContentLength == 0 {
			next.ServeHTTP(w, req)
			return
		}
		b := &boundedBody{ReadCloser: req.Body, left: math.MaxInt64}
		if r.MaxBody > 0 {
			b.left = r.MaxBody
		}
		if req.ContentLength > b.left {
			refuse(w, http.StatusRequestEntityTooLarge)
			return
		}
		ctx, cancel := context.WithCancelCause(req.Context())
		defer cancel(nil)
		b.cancel = cancel
		b.late.call(func(cause error) {
			cancel(cause)
			exchangeOf(ctx).interrupt()
		})
		b.late.arm(r.Timeouts.Body, errBodyLate)
		defer b.late.stop()
		out := req.WithContext(ctx)
		out.Body = b
		next.ServeHTTP(w, out)
	})
}

// A boundedBody ends with an error where a body goes on for too long.
type boundedBody struct {
	io.ReadCloser
	left   int64
	cancel context.CancelCauseFunc // ends the request, and says why
	late   watch
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		b.cancel(errBodyLarge)
		return int(b.left), errBodyLarge
	}
	b.left -= int64(n)
	if err != nil {
		b.late.stop()
	}
	return n, err
}
