package httpproxy

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"fairlead/userspace/model"
)

// pages are the bodies for answers with some statuses.
type pages []model.ErrorPage

// of returns the page for a status, nil if there is none.
func (p pages) of(status int) *model.ErrorPage {
	for i := range p {
		if p[i].Low <= status && status <= p[i].High {
			return &p[i]
		}
	}
	return nil
}

// showPages puts pages in place of what backends say. Those for our own answers
// are put by refuse.
func showPages(r *model.Route, next http.Handler) http.Handler {
	all := pages(slices.DeleteFunc(slices.Clone(r.ErrorPages), func(p model.ErrorPage) bool { return !p.Backends }))
	if len(all) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		x := exchangeOf(req.Context())
		x.revise = append(x.revise, func(res *http.Response) {
			if page := all.of(res.StatusCode); page != nil {
				put(res, page)
			}
		})
		next.ServeHTTP(w, req)
	})
}

// about are the headers that are about a body.
var about = []string{
	"Accept-Ranges", "Content-Digest", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length",
	"Content-Md5", "Content-Range", "Digest", "Etag", "Last-Modified", "Repr-Digest",
}

// put puts a page in place of what a backend says.
func put(res *http.Response, page *model.ErrorPage) {
	res.Body.Close()
	for _, name := range about {
		res.Header.Del(name)
	}
	res.Header.Set("Content-Type", page.Type)
	res.Header.Set("Content-Length", strconv.Itoa(len(page.Body)))
	res.ContentLength, res.Trailer = int64(len(page.Body)), nil
	res.Body = http.NoBody
	if res.Request.Method != http.MethodHead {
		res.Body = io.NopCloser(strings.NewReader(page.Body))
	}
}

// refuse answers with a status of ours: with the page for it, or else its name.
func refuse(w http.ResponseWriter, status int) {
	text, kind := http.StatusText(status)+"\n", "text/plain; charset=utf-8"
	if page := pagesOf(w).of(status); page != nil {
		text, kind = page.Body, page.Type
	}
	h := w.Header()
	for _, name := range about {
		h.Del(name)
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // who is gone is gone
}

// pagesOf returns the pages that are in force for an answer.
func pagesOf(w http.ResponseWriter) pages {
	for {
		if c, ok := w.(*counted); ok {
			return c.pages
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil
		}
		w = u.Unwrap()
	}
}

// statusOf returns the status that a handler answers with, and sets its headers.
func statusOf(handler http.Handler, r *http.Request, h http.Header) int {
	s := &statusTaker{header: h}
	handler.ServeHTTP(s, r)
	return s.status
}

// A statusTaker is a [http.ResponseWriter] that drops bodies.
type statusTaker struct {
	header http.Header
	status int
}

func (s *statusTaker) Header() http.Header         { return s.header }
func (s *statusTaker) WriteHeader(status int)      { s.status = status }
func (s *statusTaker) Write(b []byte) (int, error) { return len(b), nil }
