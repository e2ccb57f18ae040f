package httpproxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"fairlead/userspace/model"
)

// A Cache answers requests in place of backends. It asks the package about them
// by [CacheKey], [Answered] and [Aside].
type Cache interface {
	// Link is the last of a route's links.
	Link(r *model.Route, next http.Handler) http.Handler
	// Purge forgets what is stored of a key, and PurgeAll of those that match;
	// false: nothing was.
	Purge(key string) bool
	PurgeAll(matches func(key string) bool) bool
}

// methodPurge is how those who may do so make a cache forget something.
const methodPurge = "PURGE"

// purge answers such a request.
func (t *Table) purge(w http.ResponseWriter, x *exchange) {
	key, _ := cacheKey(x)
	switch {
	case !within(x.client, t.purgers):
		refuse(w, http.StatusForbidden)
	case t.forget(key):
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, http.StatusNotFound)
	}
}

// forget makes the cache forget a key, or all that begin with it if it ends with a
// *, which is of all hosts if the host is one, too.
func (t *Table) forget(key string) bool {
	prefix, many := strings.CutSuffix(key, "*")
	if !many {
		return t.cache.Purge(key)
	}
	path, everywhere := strings.CutPrefix(prefix, "*/")
	return t.cache.PurgeAll(func(stored string) bool {
		if everywhere {
			_, rest, _ := strings.Cut(stored, "/")
			return strings.HasPrefix(rest, path)
		}
		return strings.HasPrefix(stored, prefix)
	})
}

// told are headers by which a trusted peer says what it was asked for. Backends make
// links of them.
var told = []string{
	"X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Forwarded-Server", "X-Forwarded-Ssl",
}

// CacheKey returns what a request is about, host and path and query, and what else
// backends are told of where it came in.
func CacheKey(r *http.Request) (key, scope string) { return cacheKey(exchangeOf(r.Context())) }

func cacheKey(x *exchange) (key, scope string) {
	key = strings.ToLower(x.in.Host) + pathOf(x.in)
	if x.in.URL.ForceQuery || x.in.URL.RawQuery != "" {
		key += "?" + x.in.URL.RawQuery
	}
	scope = "http"
	if x.in.TLS != nil {
		scope = "https"
	}
	if x.trusted {
		for _, name := range told {
			scope += fmt.Sprintf(" %q", x.in.Header.Values(name))
		}
	}
	return key, scope
}

// Answered reports whether the answer to a request is a backend's, not one of the
// proxy.
func Answered(r *http.Request) bool { return exchangeOf(r.Context()).answered.Load() }

// Aside calls do, in a goroutine, for a copy of r whose client nobody is: it lasts
// until Serve ends. The writer keeps nothing. Outside of Serve it returns false.
func Aside(r *http.Request, do func(http.ResponseWriter, *http.Request)) bool {
	at, ok := r.Context().Value(besideKey{}).(*beside)
	if !ok || at.ctx.Err() != nil {
		return false
	}
	x := exchangeOf(r.Context())
	n := &exchange{
		proxy: x.proxy, path: x.path, peer: x.peer, local: x.local, trusted: x.trusted, client: x.client,
		w: &counted{ResponseWriter: nowhere{}, counters: &counters{}}, prepare: slices.Clip(x.prepare), revise: slices.Clip(x.revise),
	}
	ctx, cancel := context.WithCancel(context.WithValue(context.WithoutCancel(r.Context()), exchangeKey{}, n))
	n.in = x.in.Clone(ctx)
	out := r.Clone(ctx)
	n.in.Body, out.Body = http.NoBody, http.NoBody
	at.running.Go(func() {
		defer cancel()
		defer context.AfterFunc(at.ctx, cancel)()
		defer func() {
			cause := recover()
			if err, _ := cause.(error); cause != nil && !errors.Is(err, http.ErrAbortHandler) {
				x.proxy.log().Error("request aside failed", "client", n.peer, "err", cause)
			}
		}()
		do(n.w, out)
	})
	return true
}

// nowhere is a writer without a client. Its header is a new one each time.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}
