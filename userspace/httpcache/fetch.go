package httpcache

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// A fetch is a request to a backend. It is the [http.ResponseWriter] that the next
// handler gets: it passes the answer on and stores a copy, or withholds it where
// an old entry is what the client gets.
type fetch struct {
	cache  *Cache
	query  *query
	w      http.ResponseWriter
	in     *http.Request
	next   http.Handler
	old    *entry // what is stored; may be nil
	why    string // the word of RFC 9211
	flight *flight

	validating, storing bool
	asked               time.Time
	since               uint32 // what Cache.change was before old was found

	header   http.Header // until it is passed on
	trailer  http.Header // from then on
	status   int         // 0 until then
	withheld bool
	entry    *entry // what is being stored
	stored   *entry // what has been
	body     []byte
	length   int // of the body; -1 is not known
	room     int // that it has of Cache.filling
}

// id returns by what flights for the query are known.
func (q *query) id() string { return q.key + " " + q.scope }

// prepare finds out what a backend is asked for: the whole answer, or whether what
// is stored still holds.
func (f *fetch) prepare() {
	f.validating = f.query.method == http.MethodGet && f.old != nil && f.old.hasValidator()
	f.storing = f.validating || f.query.asksForAll()
}

// run has the request answered.
func (f *fetch) run() {
	c := f.cache
	c.misses.Add(1)
	defer f.land(broken)
	defer f.leave()
	f.asked, f.header, f.trailer = time.Now(), http.Header{}, http.Header{}
	f.forward()
	switch now := time.Now(); {
	case f.withheld && f.status == http.StatusNotModified:
		f.refresh(now)
	case f.withheld:
		e := *f.old
		e.bridging = now.Add(bridgeTime)
		c.store(f.query, f.since, &e)
		f.land(done)
		c.replyUnasked(f.w, f.in, &e, "fwd="+f.why+"; fwd-status="+strconv.Itoa(f.status))
	case len(f.trailer) > 0 && (f.entry != nil || f.stored != nil): // nobody had announced them
		c.drop(f.query, f.since, cmp.Or(f.stored, f.old))
		f.land(personal)
	case f.entry != nil && (f.length < 0 || f.length == len(f.body)):
		f.complete()
	}
}

// refresh brings the old entry up to date and answers with it.
func (f *fetch) refresh(now time.Time) {
	f.cache.revalidated.Add(1)
	e, ok := f.query.refreshed(f.old, f.header, f.asked, now)
	if ok {
		f.cache.store(f.query, f.since, e)
		f.land(done)
	} else {
		f.cache.drop(f.query, f.since, f.old)
		f.land(personal)
	}
	f.cache.reply(f.w, f.in, e, "fwd="+f.why+"; fwd-status=304")
}

// forward hands the request on. An answer that breaks off is as good as another
// if it is withheld.
func (f *fetch) forward() {
	defer func() {
		if !f.withheld {
			return
		}
		cause := recover()
		if err, _ := cause.(error); cause != nil && !errors.Is(err, http.ErrAbortHandler) {
			panic(cause)
		}
	}()
	out := f.in
	if f.validating {
		out = f.in.Clone(f.in.Context())
		for _, name := range conditions {
			delete(out.Header, name)
		}
		for name, value := range map[string]string{"If-None-Match": "Etag", "If-Modified-Since": "Last-Modified"} {
			if v := f.old.header.Get(value); v != "" {
				out.Header.Set(name, v)
			}
		}
	}
	f.next.ServeHTTP(f, out)
	if f.begin(); !f.withheld {
		copyHeader(f.w.Header(), f.trailer)
	}
}

// begin begins an answer whose status goes without saying.
func (f *fetch) begin() {
	if f.status == 0 {
		f.WriteHeader(http.StatusOK)
	}
}

// Header is for [http.ResponseWriter].
func (f *fetch) Header() http.Header {
	if f.status != 0 {
		return f.trailer
	}
	return f.header
}

// Unwrap is for [http.ResponseController].
func (f *fetch) Unwrap() http.ResponseWriter { return f.w }

// FlushError is for [http.ResponseController].
func (f *fetch) FlushError() error {
	if f.begin(); f.withheld {
		return nil
	}
	return http.NewResponseController(f.w).Flush()
}

// WriteHeader decides what becomes of the answer.
func (f *fetch) WriteHeader(status int) {
	switch {
	case f.status != 0:
		return
	case status < 200:
		f.inform(status)
		return
	}
	f.status = status
	now, answered := time.Now(), f.cache.front.Answered(f.in)
	f.withheld = f.validating && answered && status == http.StatusNotModified ||
		f.old != nil && f.query.bridges(f.old, status, answered, f.cache.conf.Load().StaleIfError, now)
	if f.withheld {
		return
	}
	if answered {
		f.consider(now)
	}
	copyHeader(f.w.Header(), f.header)
	detail := "fwd=" + f.why
	if f.entry != nil {
		detail += "; stored"
		f.keep(nil)
	} else if answered {
		f.land(personal)
	} else {
		f.land(done)
	}
	addStatus(f.w.Header(), detail)
	f.w.WriteHeader(status)
}

// inform passes on an answer that is not the last.
func (f *fetch) inform(status int) {
	own := f.w.Header()
	before := own.Clone()
	copyHeader(own, f.header)
	f.w.WriteHeader(status)
	clear(own)
	copyHeader(own, before)
}

// consider decides whether the answer is stored, and whether an old one may stay.
func (f *fetch) consider(now time.Time) {
	c, q := f.cache, f.query
	if q.method == http.MethodHead {
		f.considerHead(now)
		return
	}
	if !f.storing {
		return
	}
	f.length = -1
	if n, err := strconv.Atoi(f.header.Get("Content-Length")); err == nil {
		f.length = n
	} else if f.status == http.StatusNoContent {
		f.length = 0
	}
	if e, ok := q.assess(f.status, f.header, f.asked, now); ok && int64(f.length) <= c.conf.Load().MaxBody && f.enter(max(f.length, 0)) {
		f.entry, f.body = e, make([]byte, 0, max(f.length, 0))
	} else if f.old != nil && f.status < http.StatusInternalServerError {
		c.drop(q, f.since, f.old)
	}
}

// considerHead brings an entry up to date with the header of the same answer, and
// forgets it if the header is another's (RFC 9111, section 4.3.5).
func (f *fetch) considerHead(now time.Time) {
	if f.old == nil || f.status != http.StatusOK || f.old.status != http.StatusOK {
		return
	}
	same := func(name string) bool {
		return len(f.header[name]) == 0 || slices.Equal(f.header[name], f.old.header[name])
	}
	if same("Etag") && same("Last-Modified") && same("Content-Length") {
		if e, ok := f.query.refreshed(f.old, f.header, f.asked, now); ok {
			f.cache.store(f.query, f.since, e)
			return
		}
	}
	f.cache.drop(f.query, f.since, f.old)
}

// Write passes on a part of the body.
func (f *fetch) Write(p []byte) (int, error) {
	if f.begin(); f.withheld {
		return len(p), nil
	}
	if f.entry != nil {
		f.keep(p)
	}
	return f.w.Write(p)
}

// keep adds a part of the body to what is being stored. The last one is stored
// before the client has it, who then finds it.
func (f *fetch) keep(p []byte) {
	size := len(f.body) + len(p)
	if int64(size) > f.cache.conf.Load().MaxBody || !f.enter(size-f.room) {
		f.entry, f.body = nil, nil
		f.leave()
		f.land(personal)
		return
	}
	f.body = append(f.body, p...)
	if len(f.body) == f.length {
		f.complete()
	}
}

// complete stores the answer.
func (f *fetch) complete() {
	f.entry.body = slices.Clip(f.body)
	if f.length < 0 {
		f.entry.body = slices.Clone(f.body) // without the room that has grown
	}
	f.cache.store(f.query, f.since, f.entry)
	f.entry, f.body, f.stored = nil, nil, f.entry
	f.leave()
	f.land(done)
}

// enter makes room for n more bytes of what is being stored, or returns false if
// there is none: all of that may take as much as what is stored.
func (f *fetch) enter(n int) bool {
	if n <= 0 {
		return true
	}
	all := &f.cache.filling
	if all.Add(int64(n)) > f.cache.conf.Load().Size {
		all.Add(-int64(n))
		return false
	}
	f.room += n
	return true
}

// leave gives back the room.
func (f *fetch) leave() {
	f.cache.filling.Add(-int64(f.room))
	f.room = 0
}

// land lets those go on who wait for the answer, and others like them not wait if
// it was in vain.
func (f *fetch) land(r result) {
	if f.flight == nil {
		return
	}
	if r == personal && f.flight.waiting.Load() {
		f.cache.put(f.query.key, f.since, func(p page) page { return page{p.entries, time.Now().Add(passTime)} })
	}
	f.cache.flights.land(f.query.id(), f.flight, r)
	f.flight = nil
}
