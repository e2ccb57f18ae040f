package httpproxy

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
)

// leastLeft is how many requests a client of HTTP/2 may take back on a connection
// before it matters how many those are of all.
const leastLeft = 100

// A takenBack counts the requests of one connection, and those that the client took
// back.
type takenBack struct{ requests, left atomic.Int64 }

type (
	takenBackKey struct{}
	connKey      struct{}
)

// withConn is for [http.Server].
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(context.WithValue(ctx, connKey{}, c), takenBackKey{}, &takenBack{})
}

// ends counts a request of HTTP/2 that is over. A client that makes requests only to
// take them back gets GOAWAY, after which the server looks at no new ones: what it
// makes of a close that is asked for, even with a request that is gone.
func (t *takenBack) ends(w http.ResponseWriter, r *http.Request) {
	all := t.requests.Add(1)
	if r.ProtoMajor != 2 || r.Context().Err() == nil {
		return
	}
	if left := t.left.Add(1); left > leastLeft && 2*left > all {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = http.NewResponseController(w).Flush() // to nobody
	}
}
