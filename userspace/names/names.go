// Package names finds the addresses of backends that the configuration names by
// hosts or by services of DNS (SRV, RFC 2782).
//
// A [Resolver] asks name servers and remembers; [Resolver.Expand] puts what it
// knows in place of names. It is not a resolver in the sense of RFC 1034: it needs
// a server that recurses, and it reads neither /etc/hosts nor search lists. It knows by
// itself who localhost is.
package names

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fairlead/userspace/model"
)

// ErrNoAddress says that a name has no address that a service can use.
var ErrNoAddress = errors.New("no address is known")

// maxAsking is how many names are looked up at once.
const maxAsking = 16

// A question is what a name server is asked.
type question struct {
	name string // in lower case, without the dot at its end
	kind dnsmessage.Type
}

// A record is what is known of the answer to a question.
type record struct {
	answer
	due time.Time // when to ask again
	err error     // of the last time
}

// A Resolver knows the addresses of names. It is safe for concurrent use.
type Resolver struct {
	log *slog.Logger

	mu       sync.Mutex
	records  map[question]*record
	prepared *model.State // last, perhaps not in force yet; nil at first
}

// New returns a Resolver that knows nothing.
func New(log *slog.Logger) *Resolver {
	return &Resolver{log: log, records: map[question]*record{}}
}

// Lookup returns what a state is by the addresses that its names have now, and an
// error for each name without.
func Lookup(ctx context.Context, state *model.State) (*model.State, error) {
	r := New(slog.New(slog.DiscardHandler))
	err := r.Prepare(ctx, state)
	return r.Expand(state), err
}

// Refresh asks what a state needs to know and is due, and forgets what neither it
// nor the one that was prepared last needs. It returns how long that is good for; 0
// if the state names nobody.
func (r *Resolver) Refresh(ctx context.Context, state *model.State) time.Duration {
	r.ask(ctx, state)
	needed, good := map[question]bool{}, time.Duration(0)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.needs(state) {
		needed[q] = true
		if k := r.records[q]; k != nil && (good == 0 || time.Until(k.due) < good) {
			good = max(time.Until(k.due), 1)
		}
	}
	if r.prepared != nil {
		for _, q := range r.needs(r.prepared) {
			needed[q] = true
		}
	}
	maps.DeleteFunc(r.records, func(q question, _ *record) bool { return !needed[q] })
	return good
}

// Prepare asks what a state needs to know, forgets nothing, nor lets Refresh forget
// any of it until another one is prepared, and returns an error for each name whose
// addresses are not known. The state must not change after.
func (r *Resolver) Prepare(ctx context.Context, state *model.State) error {
	r.mu.Lock()
	r.prepared = state
	r.mu.Unlock()
	r.ask(ctx, state)
	return r.Missing(state)
}

// Missing returns an error for each name of a state of which no address is known.
func (r *Resolver) Missing(state *model.State) error {
	var faults []error
	said := map[string]bool{}
	for _, s := range state.Groups() {
		for _, b := range r.Absent(state, s) {
			if !said[b.Name.Host] {
				said[b.Name.Host] = true
				faults = append(faults, b.Why)
			}
		}
	}
	return errors.Join(faults...)
}

// An Absent backend goes by a name of which no address is known.
type Absent struct {
	model.Backend
	Why error
}

// Absent returns the backends of a service of a state that Expand has nothing for.
func (r *Resolver) Absent(state *model.State, s *model.Service) (all []Absent) {
	for _, b := range s.Backends {
		if b.Name.Host != "" && len(r.expand(state, s, &b)) == 0 {
			all = append(all, Absent{b, fmt.Errorf("look %s up: %w", b.Name.Host, r.why(s, &b))})
		}
	}
	return all
}

// ask asks what a state needs to know and is due: what SRV records name after them.
func (r *Resolver) ask(ctx context.Context, state *model.State) {
	for range 2 {
		var due []question
		r.mu.Lock()
		for _, q := range r.needs(state) {
			if k := r.records[q]; k == nil || !time.Now().Before(k.due) {
				due = append(due, q)
			}
		}
		r.mu.Unlock()
		places, asking := make(chan struct{}, maxAsking), sync.WaitGroup{}
		for _, q := range due {
			places <- struct{}{}
			asking.Go(func() {
				defer func() { <-places }()
				a, err := query(ctx, &state.Resolver, q)
				if ctx.Err() == nil {
					r.note(&state.Resolver, q, a, err)
				}
			})
		}
		asking.Wait()
	}
}

// needs returns what must be known of a state, each once. The caller holds r.mu.
func (r *Resolver) needs(state *model.State) (all []question) {
	seen := map[question]bool{}
	add := func(q question) {
		if !seen[q] {
			seen[q] = true
			all = append(all, q)
		}
	}
	for _, s := range state.Groups() {
		for _, b := range s.Backends {
			switch {
			case b.Name.Host == "":
			case b.Name.SRV:
				q := question{b.Name.Host, dnsmessage.TypeSRV}
				add(q)
				for _, t := range r.targets(q) {
					for _, kind := range kinds(s) {
						add(question{t.host, kind})
					}
				}
			default:
				for _, kind := range kinds(s) {
					add(question{b.Name.Host, kind})
				}
			}
		}
	}
	return all
}

// kinds returns the types of the addresses that backends of a service may have:
// without user space those of the others, or of the clients.
func kinds(s *model.Service) []dnsmessage.Type {
	family := s.Listen.Addr()
	for _, b := range s.Backends {
		if b.Address.Addr().IsValid() && b.Name.Host == "" {
			family = b.Address.Addr()
		}
	}
	switch {
	case s.UserSpace():
		return []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}
	case family.Is4():
		return []dnsmessage.Type{dnsmessage.TypeA}
	}
	return []dnsmessage.Type{dnsmessage.TypeAAAA}
}

// targets returns what is known of a service's hosts. The caller holds r.mu.
func (r *Resolver) targets(q question) []target {
	if k := r.records[q]; k != nil {
		return k.targets
	}
	return nil
}

// note takes an answer over. A look-up that failed, or says that there is nothing
// where there was something, leaves all as it was: a name server that is ill must
// not empty a service.
func (r *Resolver) note(conf *model.Resolver, q question, a answer, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	had := r.records[q]
	if had == nil {
		had = &record{}
	}
	if err == nil && a.empty() && !had.empty() && !r.elsewhere(q) {
		err = ErrNoAddress
	}
	k := &record{a, time.Now().Add(min(max(a.ttl, conf.MinTTL), conf.MaxTTL)), err}
	if err != nil {
		k.answer, k.due = had.answer, time.Now().Add(conf.MinTTL)
		if had.err == nil || had.err.Error() != err.Error() {
			r.log.Warn("name not found, what is known of it stays", "name", q.name, "type", typeName(q.kind), "addresses", len(k.addrs)+len(k.targets), "err", err)
		}
	}
	r.records[q] = k
}

// elsewhere reports whether a host has addresses of the other family. The caller
// holds r.mu.
func (r *Resolver) elsewhere(q question) bool {
	switch q.kind {
	case dnsmessage.TypeA:
		q.kind = dnsmessage.TypeAAAA
	case dnsmessage.TypeAAAA:
		q.kind = dnsmessage.TypeA
	}
	k := r.records[q]
	return k != nil && len(k.addrs) > 0
}

func typeName(t dnsmessage.Type) string { return strings.TrimPrefix(t.String(), "Type") }

// why returns what keeps the addresses of a backend from being known.
func (r *Resolver) why(s *model.Service, b *model.Backend) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := kinds(s)
	if b.Name.SRV {
		asked = []dnsmessage.Type{dnsmessage.TypeSRV}
	}
	for _, kind := range asked {
		if k := r.records[question{b.Name.Host, kind}]; k != nil && k.err != nil {
			return k.err
		}
	}
	return ErrNoAddress
}

// Expand returns a state whose backends with names have given way to one for each
// address that is known, in a fixed order.
func (r *Resolver) Expand(state *model.State) *model.State {
	x := *state
	x.Services, x.Pools = slices.Clone(state.Services), slices.Clone(state.Pools)
	given := state.Groups()
	for i, s := range x.Groups() {
		s.Backends = make([]model.Backend, 0, len(s.Backends))
		taken := map[netip.AddrPort]bool{}
		for _, b := range given[i].Backends {
			taken[b.Address] = taken[b.Address] || b.Name.Host == ""
		}
		for _, b := range given[i].Backends {
			if b.Name.Host == "" {
				s.Backends = append(s.Backends, b)
				continue
			}
			for _, b := range r.expand(state, given[i], &b) {
				if !taken[b.Address] {
					taken[b.Address] = true
					s.Backends = append(s.Backends, b)
				}
			}
		}
	}
	return &x
}

// expand returns the backends that a name of a service stands for.
func (r *Resolver) expand(state *model.State, s *model.Service, b *model.Backend) (all []model.Backend) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add := func(host string, port uint16, like model.Backend) {
		for _, kind := range kinds(s) {
			if k := r.records[question{host, kind}]; k != nil {
				for _, addr := range k.addrs {
					if like.Address = netip.AddrPortFrom(addr, port); fits(state, s, like.Address) {
						all = append(all, like)
					}
				}
			}
		}
	}
	if !b.Name.SRV {
		add(b.Name.Host, b.Address.Port(), *b)
		return all
	}
	list := r.targets(question{b.Name.Host, dnsmessage.TypeSRV})
	for _, t := range list {
		like := *b
		like.Weight, like.Backup = t.weightAmong(list), t.priority > list[0].priority
		add(t.host, t.port, like)
	}
	return all
}
