package httpproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/userspace/model"
)

// A Chooser chooses the backend for a request of client to local, by its index,
// that skip does not want skipped; ok is false if there is none. done is called
// once, when the request is over.
//
// Keep gives the i-th backend a request in the same way, whatever it weighs, unless
// it is down. Weight says what it weighs; 0 is nothing new.
type Chooser interface {
	Choose(client, local netip.AddrPort, skip func(i uint32) bool) (i uint32, done func(), ok bool)
	Keep(i uint32) (done func(), ok bool)
	Weight(i uint32) int
}

// A Pool is a set of backends and what is known of them from the requests that
// they had. It is safe for concurrent use.
type Pool struct {
	// First returns what a backend is sent first where the pool has SendProxy;
	// nil if no pool has. It must not change after the first Update.
	First func(v model.ProxyVersion, client, server netip.AddrPort) []byte

	log   *slog.Logger
	set   atomic.Pointer[set]
	queue queue
	spare budget
	stays stays

	updating sync.Mutex
	tls      *tls.Config // of backends; nil is the usual
}

// A set is who a pool consists of. It does not change.
type set struct {
	conf     model.Pool
	backends []*backend // by index of conf.Backends
	seal     *seal      // of cookies; nil without
	chooser  Chooser
	carriers *carriers
}

// A backend is one of a pool, for as long as the pool has it.
type backend struct {
	model.Backend
	key    uint64       // by which clients find it; see set.first
	host   string       // its address, as URLs have it
	active atomic.Int64 // requests
	quick  pace
	load   load
	outs   outs
	tally  tally
}

// identity is what makes a backend another one.
func identity(b model.Backend) string {
	text := b.Address.String() + b.Origin.Prefix
	if b.Origin.TLS {
		text = "https://" + text
	}
	return text
}

// NewPool returns a pool without backends. log may be nil.
func NewPool(log *slog.Logger) *Pool {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &Pool{log: log}
	p.set.Store(&set{carriers: newCarriers(&model.Pool{}, nil, nil)})
	return p
}

// Update makes conf what the pool is, and has chooser choose among its backends.
// Backends that stay are known as well as before; requests that run go on.
func (p *Pool) Update(conf *model.Pool, chooser Chooser) {
	p.updating.Lock()
	defer p.updating.Unlock()
	old := p.set.Load()
	s := &set{conf: *conf, chooser: chooser, carriers: old.carriers, backends: make([]*backend, len(conf.Backends))}
	if conf.HTTP2 != old.conf.HTTP2 || conf.SendProxy != old.conf.SendProxy || conf.KeepAlive != old.conf.KeepAlive {
		s.carriers = newCarriers(conf, p.tls, p.first(conf.SendProxy))
	}
	for i, b := range conf.Backends {
		at := slices.IndexFunc(old.backends, func(o *backend) bool { return o.Address == b.Address && o.Origin == b.Origin })
		if at >= 0 {
			s.backends[i] = old.backends[at]
		} else {
			s.backends[i] = &backend{Backend: b, key: keyOf(identity(b)), host: b.Address.String()}
		}
	}
	s.seal = newSeal(&s.conf)
	p.set.Store(s)
	if s.carriers != old.carriers {
		old.carriers.close()
	}
	p.queue.wakeAll() // somebody may have come up
}

// UseTLS makes c how backends with TLS are spoken to; nil is with what this host
// trusts. Requests that run go on.
func (p *Pool) UseTLS(c *tls.Config) {
	p.updating.Lock()
	defer p.updating.Unlock()
	if p.tls == c {
		return
	}
	p.tls = c
	old := p.set.Load()
	s := *old
	s.carriers = newCarriers(&s.conf, c, p.first(s.conf.SendProxy))
	p.set.Store(&s)
	old.carriers.close()
}

// first returns what tells backends whom a connection is of, nil if nothing shall.
func (p *Pool) first(v model.ProxyVersion) func(client, server netip.AddrPort) []byte {
	if v == "" {
		return nil
	}
	return func(client, server netip.AddrPort) []byte { return p.First(v, client, server) }
}

// Close closes the connections to backends that no request uses.
func (p *Pool) Close() { p.set.Load().carriers.close() }

// Responses returns how long each backend takes until it answers, smoothed, by
// its index of the last Update; 0 is not known.
func (p *Pool) Responses() []time.Duration {
	s := p.set.Load()
	all := make([]time.Duration, len(s.backends))
	for i, b := range s.backends {
		all[i] = b.quick.get()
	}
	return all
}

// Ejected returns until when each backend is left out because of its answers, by
// its index of the last Update; the zero time is not at all.
func (p *Pool) Ejected() []time.Time {
	s, now := p.set.Load(), time.Now()
	all := make([]time.Time, len(s.backends))
	for i, b := range s.backends {
		if until := b.outs.end(); until.After(now) {
			all[i] = until
		}
	}
	return all
}

// A turn is a request's at a backend. It is ended once.
type turn struct {
	pool    *Pool
	set     *set
	backend *backend
	done    func()
}

// end lets somebody else have the place.
func (t *turn) end() {
	t.backend.active.Add(-1)
	t.done()
	t.pool.queue.wake()
}

// take finds a backend for a request that none of tried shall serve. If all that
// could have as many requests as they may, it waits in the queue, unless others
// were tried.
func (p *Pool) take(ctx context.Context, x *exchange, tried []*backend) (*turn, error) {
	mayWait := len(tried) == 0 && p.set.Load().conf.Queue.Size > 0
	if !mayWait || p.queue.empty() {
		t, err := p.try(x, tried)
		if !mayWait || !errors.Is(err, errBusy) {
			return t, err
		}
	}
	return p.wait(ctx, x)
}

// try is take without waiting.
func (p *Pool) try(x *exchange, tried []*backend) (*turn, error) {
	s := p.set.Load()
	if s.chooser == nil {
		return nil, errNoBackend
	}
	now, most := time.Now(), int64(s.conf.MaxRequests)
	if len(tried) == 0 {
		x.stay = p.stay(s, x)
	}
	var busy, out, mercy bool
	skip := func(i uint32) bool {
		b := s.backends[i]
		switch {
		case slices.Contains(tried, b):
			return true
		case !mercy && b.outs.end().After(now):
			out = true
			return true
		case most > 0 && b.active.Load() >= most:
			busy = true
			x.stay.full = x.stay.full || b == x.stay.backend
			return true
		}
		return false
	}
	for {
		i, done, ok := s.choose(x, skip)
		switch {
		case ok && (s.backends[i].active.Add(1) <= most || most == 0):
			p.stays.note(&s.conf.Sticky, &x.stay, s.backends[i], now)
			return &turn{p, s, s.backends[i], done}, nil
		case ok: // another request was quicker
			s.backends[i].active.Add(-1)
			done()
		case out && !busy && !mercy:
			mercy = true // better who is ejected than nobody
		case busy:
			return nil, errBusy
		default:
			return nil, errNoBackend
		}
	}
}
