package httpproxy

import (
	"io"
	"net/http"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"fairlead/userspace/model"
)

// replaceText puts texts in place of others in what backends answer.
func replaceText(r *model.Route, next http.Handler) http.Handler {
	rule := r.Replace
	if rule == nil {
		return next
	}
	var firsts [256]bool
	for _, t := range rule.Texts {
		firsts[t.Find[0]] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		x := exchangeOf(req.Context())
		x.prepare = append(x.prepare, func(out *http.Request) {
			out.Header.Set("Accept-Encoding", "identity")
			out.Header.Del("Range") // parts of what the client has are not parts of what the backend has
			out.Header.Del("If-Range")
		})
		x.revise = append(x.revise, func(res *http.Response) {
			if res.StatusCode == http.StatusNotModified {
				weakenKnown(res.Header, req)
			} else if isOfType(res.Header, rule.Types) {
				replaceIn(res, &replacing{src: res.Body, texts: rule.Texts, firsts: &firsts})
			}
		})
		next.ServeHTTP(w, req)
	})
}

// replaceIn makes body, which reads it, the body of an answer that is whole.
func replaceIn(res *http.Response, body *replacing) {
	open, ok := decodings[strings.ToLower(res.Header.Get("Content-Encoding"))]
	if !ok || res.StatusCode == http.StatusPartialContent || res.ContentLength == 0 {
		return
	}
	for _, name := range []string{"Accept-Ranges", "Content-Digest", "Content-Encoding", "Content-Length", "Content-Md5", "Digest", "Repr-Digest"} {
		res.Header.Del(name)
	}
	weaken(res.Header)
	if res.Request.Method != http.MethodHead {
		body.open, body.block = open, moving.Get()
		res.Body, res.ContentLength = body, -1
	}
}

// decodings open what is in a content coding.
var decodings = map[string]func(io.Reader) (io.Reader, error){
	"":     func(r io.Reader) (io.Reader, error) { return r, nil },
	"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	"br":   func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
	"zstd": func(r io.Reader) (io.Reader, error) {
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
	},
}

// maxReplaced is about how much of an answer with other texts waits to be read.
const maxReplaced = 64 << 10

// A replacing body has other texts than its source. It holds back no more than
// what may be the beginning of a text.
type replacing struct {
	src    io.ReadCloser
	open   func(io.Reader) (io.Reader, error)
	plain  io.Reader // src decoded, nil before the first Read
	texts  []model.Replacement
	firsts *[256]bool // bytes that texts begin with

	block []byte
	rest  []byte // of block: read but not looked at
	out   []byte // looked at but not handed out
	store []byte // where out is
	err   error  // of plain
}

func (r *replacing) Read(p []byte) (int, error) {
	for {
		if r.look(); len(r.out) > 0 {
			n := copy(p, r.out)
			r.out = r.out[n:]
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		r.more()
	}
}

// more reads once.
func (r *replacing) more() {
	if r.plain == nil {
		if r.plain, r.err = r.open(r.src); r.err != nil {
			return
		}
	}
	kept := copy(r.block, r.rest)
	n, err := r.plain.Read(r.block[kept:])
	r.rest, r.err = r.block[:kept+n], err
}

// look moves what is certain of the rest to out.
func (r *replacing) look() {
	if len(r.out) > 0 {
		return
	}
	out, at := r.store[:0], 0
	for at < len(r.rest) && len(out) < maxReplaced {
		next := at
		for next < len(r.rest) && !r.firsts[r.rest[next]] {
			next++
		}
		out, at = append(out, r.rest[at:next]...), next
		if at == len(r.rest) {
			break
		}
		text, certain := r.find(r.rest[at:])
		if !certain {
			break
		}
		if text != nil {
			out, at = append(out, text.With...), at+len(text.Find)
		} else {
			out, at = append(out, r.rest[at]), at+1
		}
	}
	r.rest, r.store, r.out = r.rest[at:], out, out
}

// find returns the text that b begins with, nil if it is none. That is not certain
// if b may be the beginning of one.
func (r *replacing) find(b []byte) (text *model.Replacement, certain bool) {
	for i := range r.texts {
		t := &r.texts[i]
		if len(b) >= len(t.Find) {
			if string(b[:len(t.Find)]) == t.Find {
				return t, true
			}
		} else if r.err == nil && strings.HasPrefix(t.Find, string(b)) {
			return nil, false
		}
	}
	return nil, true
}

// Close closes the source. Nothing may be read any more.
func (r *replacing) Close() error {
	if z, ok := r.plain.(*zstd.Decoder); ok {
		z.Close()
	}
	if r.block != nil {
		moving.Put(r.block)
		r.block, r.rest = nil, nil
	}
	return r.src.Close()
}
