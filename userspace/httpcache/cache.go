// Package httpcache keeps answers of backends and gives them to others who ask for
// the same: a shared cache as RFC 9111 has it, in memory, bounded in bytes.
//
// It is a step between a handler and the next one, and knows neither connections
// nor backends: what it needs of the proxy around it is a [Front]. docs/http.md
// has the rules, where they choose among what the RFC leaves open.
package httpcache

import (
	"crypto/sha256"
	"fmt"
	"hash/maphash"
	"math"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"fairlead/userspace/model"
)

// Bounds.
const (
	maxEntries = 32               // of one URL
	patience   = 5 * time.Second  // that a request waits for another one
	passTime   = 30 * time.Second // that nobody waits where an answer was for one only
	bridgeTime = time.Second      // that a backend is not asked again after it has failed
)

// A Front is what a Cache must know of requests. All of it is needed.
type Front struct {
	// Key returns what a request is about: the host, in lower case, and path and
	// query; and a scope beyond which its answer is not shared, although it is
	// forgotten in all at once.
	Key func(r *http.Request) (key, scope string)
	// Answered reports whether the answer that is being written is a backend's.
	Answered func(r *http.Request) bool
	// Aside calls do for a copy of a request, with a writer that keeps nothing,
	// while the request itself may end. It returns false if it will not.
	Aside func(r *http.Request, do func(http.ResponseWriter, *http.Request)) bool
}

// A Cache keeps answers. It is safe for concurrent use.
type Cache struct {
	front   Front
	conf    atomic.Pointer[model.Cache]
	pages   *otter.Cache[string, *page]
	flights flights
	seed    maphash.Seed
	changes [1 << 16]atomic.Uint32 // of what is stored, by the hash of a key
	filling atomic.Int64           // bytes of bodies that are being stored
	counters
}

// A page is what is stored of one key. It does not change.
type page struct {
	entries []*entry // the newest first
	pass    time.Time
}

// Stats are sums since the Cache was made, except Bytes and Pages.
type Stats struct {
	Hits        uint64 // requests answered without a backend, Stale ones too
	Misses      uint64 // requests that went to a backend
	Stale       uint64 // requests answered with what was not fresh any more
	Revalidated uint64 // of Misses: those that what is stored was confirmed for
	Bytes       uint64 // that are stored
	Pages       uint64 // URLs of which something is stored
}

type counters struct{ hits, misses, stale, revalidated atomic.Uint64 }

// New returns an empty cache.
func New(front Front, conf *model.Cache) *Cache {
	c := &Cache{front: front, seed: maphash.MakeSeed()}
	c.pages = otter.Must(&otter.Options[string, *page]{
		MaximumWeight: uint64(conf.Size),
		Weigher:       func(key string, p *page) uint32 { return uint32(min(p.weight()+uint64(len(key)), math.MaxUint32)) },
	})
	c.conf.Store(conf)
	return c
}

// Use makes conf the bounds from now on.
func (c *Cache) Use(conf *model.Cache) {
	if c.conf.Swap(conf).Size != conf.Size {
		c.pages.SetMaximum(uint64(conf.Size))
	}
}

// Stats returns the counters as they stand. It may be called at any time.
func (c *Cache) Stats() Stats {
	c.pages.CleanUp() // what was forgotten just now still weighs something
	return Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Stale: c.stale.Load(), Revalidated: c.revalidated.Load(),
		Bytes: c.pages.WeightedSize(), Pages: uint64(c.pages.EstimatedSize()),
	}
}

// Link returns what answers the requests of a route, with next for what is not
// stored. Requests that change something make it forgotten on every route.
func (c *Cache) Link(r *model.Route, next http.Handler) http.Handler {
	id := identify(r)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.Method {
		case http.MethodGet, http.MethodHead:
			if r.Cache && req.Header.Get("Upgrade") == "" {
				c.get(w, req, c.query(req, r, id), next)
				return
			}
		case http.MethodOptions, http.MethodTrace:
		default:
			w = &unsafeWriter{ResponseWriter: w, cache: c, in: req}
		}
		next.ServeHTTP(w, req)
	})
}

// identify returns what a route has in common with another one if what is stored of
// one is good for the other: who takes it, and what backends are asked and have
// answered. What is done to answers that are stored already does not matter.
func identify(r *model.Route) string {
	all := fmt.Sprintf("%q", []any{
		r.Match, r.Clients, r.Headers, r.Query, r.Cookies, r.Pools, r.RequestHeaders, deref(r.Rewrite), deref(r.Replace), deref(r.ForwardAuth),
	})
	sum := sha256.Sum256([]byte(all))
	return string(sum[:])
}

// deref returns what p leads to, as Sprintf does not.
func deref[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// get answers a request from what is stored, or with what next answers.
func (c *Cache) get(w http.ResponseWriter, req *http.Request, q *query, next http.Handler) {
	f := &fetch{cache: c, query: q, w: w, in: req, next: next, why: "bypass"}
	if q.bypasses() || req.ContentLength != 0 {
		f.run()
		return
	}
	f.since = c.change(q.key).Load()
	if f.old, f.why = c.find(q); f.old != nil {
		var how use
		if how, f.why = q.judge(f.old, time.Now()); how != notAtAll {
			c.hit(f, how)
			return
		}
	}
	if q.control.has("only-if-cached") {
		http.Error(w, http.StatusText(http.StatusGatewayTimeout), http.StatusGatewayTimeout)
		return
	}
	f.prepare()
	if f.storing && f.why != "request" {
		c.wait(f)
	} else {
		f.run()
	}
}

// hit answers with an entry, and has another fetched if it is stale.
func (c *Cache) hit(f *fetch, how use) {
	c.hits.Add(1)
	if how == asStale {
		c.refetch(f)
	}
	c.replyUnasked(f.w, f.in, f.old, "hit")
}

// refetch asks for a new answer aside, unless somebody asks already.
func (c *Cache) refetch(f *fetch) {
	id := f.query.id()
	flight, leads := c.flights.join(id)
	if !leads {
		return
	}
	again := *f
	again.flight = flight
	if !c.front.Aside(f.in, func(w http.ResponseWriter, r *http.Request) {
		again.w, again.in, again.why = w, r, "stale"
		again.prepare()
		again.run()
	}) {
		c.flights.land(id, flight, broken)
	}
}

// wait waits for somebody who fetches the same, or fetches it.
func (c *Cache) wait(f *fetch) {
	late := time.NewTimer(patience)
	defer late.Stop()
	for !c.passes(f.query) {
		flight, leads := c.flights.join(f.query.id())
		if !leads && !flight.await(f.in.Context(), late.C) {
			break
		}
		if e, _ := c.find(f.query); e != nil { // by now
			if how, _ := f.query.judge(e, time.Now()); how != notAtAll {
				if leads {
					c.flights.land(f.query.id(), flight, done)
				}
				c.hits.Add(1)
				c.replyUnasked(f.w, f.in, e, "fwd="+f.why+"; collapsed")
				return
			}
		}
		if leads {
			f.flight = flight
			break
		}
		if flight.result != broken {
			break
		}
	}
	f.run()
}

// find returns the entry for a query, or why there is none.
func (c *Cache) find(q *query) (e *entry, why string) {
	p, ok := c.pages.GetIfPresent(q.key)
	if !ok || len(p.entries) == 0 {
		return nil, "uri-miss"
	}
	if i := slices.IndexFunc(p.entries, q.selects); i >= 0 {
		return p.entries[i], ""
	}
	return nil, "vary-miss"
}

// passes reports whether answers to such queries are for one only, as far as is
// known.
func (c *Cache) passes(q *query) bool {
	p, ok := c.pages.GetIfPresent(q.key)
	return ok && time.Now().Before(p.pass)
}

// change returns what counts the changes of a key, and perhaps of others.
func (c *Cache) change(key string) *atomic.Uint32 {
	return &c.changes[maphash.String(c.seed, key)%uint64(len(c.changes))]
}

// put stores what make makes of a page in its place, unless the key has changed
// since since.
func (c *Cache) put(key string, since uint32, make func(old page) page) {
	c.pages.Compute(key, func(old *page, found bool) (*page, otter.ComputeOp) {
		if c.change(key).Load() != since {
			return nil, otter.CancelOp
		}
		if !found {
			old = &page{}
		}
		p := make(*old)
		if len(p.entries) == 0 && p.pass.IsZero() {
			return nil, otter.InvalidateOp
		}
		return &p, otter.WriteOp
	})
}

// store puts an entry in the place of what the query has found before.
func (c *Cache) store(q *query, since uint32, e *entry) {
	c.put(q.key, since, func(p page) page {
		all := []*entry{e}
		for _, old := range p.entries {
			if !q.selects(old) && len(all) < maxEntries {
				all = append(all, old)
			}
		}
		return page{all, p.pass}
	})
}

// drop forgets an entry.
func (c *Cache) drop(q *query, since uint32, e *entry) {
	c.put(q.key, since, func(p page) page {
		return page{slices.DeleteFunc(slices.Clone(p.entries), func(old *entry) bool { return old == e }), p.pass}
	})
}

func (p *page) weight() (sum uint64) {
	sum = overhead
	for _, e := range p.entries {
		sum += e.weight()
	}
	return sum
}

// Purge forgets all that is stored of a key, and reports whether there was any.
func (c *Cache) Purge(key string) bool {
	c.change(key).Add(1)
	_, ok := c.pages.Invalidate(key)
	return ok
}

// PurgeAll forgets all that is stored of the keys that match, and reports whether
// there was any. It looks at each key.
func (c *Cache) PurgeAll(matches func(key string) bool) bool {
	for i := range c.changes {
		c.changes[i].Add(1)
	}
	found := false
	for key := range c.pages.Keys() { // which waits for what is just being put
		if matches(key) {
			_, ok := c.pages.Invalidate(key)
			found = found || ok
		}
	}
	return found
}
