package httpproxy

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

// maxReplay is how much of a body is kept for another attempt.
const maxReplay = 64 << 10

// A body is that of a client's request, which several attempts send one after the
// other. What it keeps for the next one is bounded; beyond that there is none.
type body struct {
	src     io.Reader
	trailer http.Header // of the client, of use once src has ended
	names   []string    // announced for it
	keep    bool

	reading sync.Mutex // held while src is read, and for buf and end
	buf     []byte     // all of it so far, while nothing is lost
	end     error      // of src

	mu      sync.Mutex
	current *bodyReader
	lost    bool // a new attempt could not send the beginning

	broken atomic.Bool // src has failed before its end
}

// A bodyReader reads a body for one attempt, until the next one begins.
type bodyReader struct {
	body *body
	pos  int    // in buf
	read func() // is called when something was read from the client
	// trailer is for the attempt alone: another one may still read the body, at
	// the end of which the server writes into that of the request.
	trailer http.Header
}

// newBody returns the body of a request.
func newBody(req *http.Request, keep bool) *body {
	return &body{src: req.Body, trailer: req.Trailer, names: slices.Collect(maps.Keys(req.Trailer)), keep: keep}
}

// reader returns what another attempt reads, or false if it cannot be.
func (b *body) reader(read func()) (*bodyReader, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost {
		return nil, false
	}
	b.current = &bodyReader{body: b, read: read}
	if len(b.names) > 0 {
		b.current.trailer = http.Header{}
	}
	for _, name := range b.names {
		b.current.trailer[name] = nil
	}
	return b.current, true
}

// hold keeps what is not read yet for the next attempt.
func (b *body) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = nil
}

// forget keeps nothing any more: there will be no other attempt.
func (b *body) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost = true
}

// replayable reports whether another attempt can be made.
func (b *body) replayable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.lost
}

// room returns how much r may read from src, which is kept if that is possible.
func (b *body) room(r *bodyReader, want int) (n int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != r {
		return 0, false
	}
	if left := maxReplay - len(b.buf); b.keep && !b.lost && left > 0 {
		return min(want, left), true
	}
	b.lost = true
	return want, true
}

func (r *bodyReader) Read(p []byte) (int, error) {
	n, err := r.next(p)
	if errors.Is(err, io.EOF) {
		for _, name := range r.body.names {
			r.trailer[name] = r.body.trailer[name]
		}
	}
	return n, err
}

func (r *bodyReader) next(p []byte) (int, error) {
	b := r.body
	b.reading.Lock() // an attempt that failed may still wait for the client
	defer b.reading.Unlock()
	if r.pos < len(b.buf) {
		n := copy(p, b.buf[r.pos:])
		r.pos += n
		return n, nil
	}
	if b.end != nil {
		return 0, b.end
	}
	n, ok := b.room(r, len(p))
	if !ok {
		return 0, errOvertaken
	}
	n, b.end = b.src.Read(p[:n])
	b.broken.Store(b.end != nil && !errors.Is(b.end, io.EOF))
	r.read()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost {
		b.buf, r.pos = nil, 0
	} else {
		b.buf = append(b.buf, p[:n]...)
		r.pos += n
	}
	return n, b.end
}

// Close is for the transport, which must not close the client's body.
func (r *bodyReader) Close() error { return nil }
