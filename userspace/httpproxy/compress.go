package httpproxy

import (
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/net/http/httpguts"

	"fairlead/userspace/model"
)

// compress sends answers compressed to clients that take them so.
func compress(r *model.Route, next http.Handler) http.Handler {
	rule := (*compression)(r.Compress)
	if rule == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if httpguts.HeaderValuesContainsToken(req.Header["Cache-Control"], "no-transform") {
			next.ServeHTTP(w, req)
			return
		}
		t := &tap{ResponseWriter: w, begin: func(status int) sink { return rule.begin(w, req, status) }}
		next.ServeHTTP(t, req)
		t.end()
	})
}

type compression model.Compress

// begin changes the header of an answer that is to be compressed, and returns
// what does that.
func (c *compression) begin(w http.ResponseWriter, req *http.Request, status int) sink {
	h := w.Header()
	if !c.fits(h, status) {
		return nil
	}
	vary(h, "Accept-Encoding")
	switch status {
	case http.StatusPartialContent:
		return nil
	case http.StatusNotModified:
		weakenKnown(h, req)
		return nil
	}
	name := preferred(req.Header["Accept-Encoding"], c.Encodings)
	if name == "" {
		return nil
	}
	h.Set("Content-Encoding", name)
	h.Del("Content-Length")
	h.Del("Accept-Ranges")
	weaken(h)
	if req.Method == http.MethodHead {
		return discard{}
	}
	exchangeOf(req.Context()).w.eager = false // the coder says when there is something
	return codings[name].open(w)
}

// fits reports whether an answer is one to be compressed; or may be, in case of a
// part of it (206), or of no more than its header (304).
func (c *compression) fits(h http.Header, status int) bool {
	if status == http.StatusNoContent || status == http.StatusResetContent {
		return false
	}
	for _, name := range []string{"Content-Encoding", "Content-Digest", "Repr-Digest", "Digest", "Content-Md5"} {
		if h.Get(name) != "" {
			return false
		}
	}
	types := c.Types
	if status == http.StatusPartialContent || status == http.StatusNotModified {
		types = append([]string{"", "multipart/byteranges"}, types...)
	} else {
		length := h.Get("Content-Length")
		if n, err := strconv.Atoi(length); h.Get("Content-Range") != "" || length != "" && (err != nil || n < c.MinSize) {
			return false
		}
	}
	return isOfType(h, types) && !httpguts.HeaderValuesContainsToken(h["Cache-Control"], "no-transform")
}

// codings are those that answers can have.
var codings = map[string]*coding{
	"gzip": {make: func() coder {
		w, _ := gzip.NewWriterLevel(nil, 5) // a level that there is
		return w
	}},
	"br": {make: func() coder {
		return brotli.NewWriterOptions(nil, brotli.WriterOptions{Quality: 4, LGWin: 18})
	}},
	"zstd": {make: func() coder {
		w, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10),
			zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true)) // options that there are
		return w
	}},
}

// A coding makes coders, and keeps those that nobody needs for a while.
type coding struct {
	make func() coder
	idle sync.Pool
}

type coder interface {
	sink
	Reset(io.Writer)
}

// open returns a sink that writes to w in this coding.
func (c *coding) open(w io.Writer) sink {
	e, ok := c.idle.Get().(coder)
	if !ok {
		e = c.make()
	}
	e.Reset(w)
	return &coded{e, c}
}

// A coded sink gives its coder back when it is closed.
type coded struct {
	coder
	coding *coding
}

func (c *coded) Close() error {
	err := c.coder.Close()
	c.Reset(nil)
	c.coding.idle.Put(c.coder)
	return err
}

// A discard takes what HEAD does not send.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Flush() error                { return nil }
func (discard) Close() error                { return nil }
