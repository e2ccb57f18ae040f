package registry

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"fairlead/userspace/control"
	"fairlead/userspace/model"
)

// Bounds of a request.
const (
	maxBody    = 4 << 10 // bytes
	defaultTTL = 10 * time.Second
	minTTL     = time.Second
	maxWeight  = 1000
)

// A Request is what a backend says of itself.
type Request struct {
	// Address is "address:port", or a URL where the pool's backends have some.
	// ":port" is at the address that the request comes from.
	Address string `json:"address"`
	// Weight is 0 to 1000; none is 1.
	Weight *int `json:"weight,omitempty"`
	// TTL is in seconds; 0 is 10.
	TTL int `json:"ttl_seconds,omitempty"`
}

// A Registered is the answer.
type Registered struct {
	ID      string `json:"id"` // for PUT and DELETE /register/<id>
	Pool    string `json:"pool"`
	Address string `json:"address"`
	TTL     int    `json:"ttl_seconds"`
}

// A problem is an answer that is a fault.
type problem struct {
	status int
	text   string
}

func (p *problem) Error() string { return p.text }

// ServeHTTP answers backends.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	answer, status, err := r.answer(w, req)
	var p *problem
	switch {
	case errors.As(err, &p):
		status = p.status
	case err != nil:
		status = statusOf(err)
	}
	if err != nil {
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		answer = map[string]string{"error": err.Error()}
	}
	w.Header().Set("Cache-Control", "no-store")
	if answer == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // whoever has gone does not read it
}

// statusOf returns how a fault of a change is answered.
func statusOf(err error) int {
	for _, x := range []struct {
		err    error
		status int
	}{
		{control.ErrExists, http.StatusConflict},
		{control.ErrUnhealthy, http.StatusUnprocessableEntity},
		{control.ErrRefused, http.StatusUnprocessableEntity},
		{control.ErrNotFound, http.StatusNotFound},
		{control.ErrInvalid, http.StatusBadRequest},
		{control.ErrUnavailable, http.StatusServiceUnavailable},
	} {
		if errors.Is(err, x.err) {
			return x.status
		}
	}
	return http.StatusInternalServerError
}

// errNobody is for requests that come before somebody may register, or later.
var errNobody = &problem{http.StatusServiceUnavailable, "nobody can register now: try again"}

// answer carries a request out. Without an answer the status says all.
func (r *Registry) answer(w http.ResponseWriter, req *http.Request) (answer any, status int, err error) {
	select {
	case <-r.known:
	case <-req.Context().Done():
		return nil, 0, errNobody
	}
	id, isOne := strings.CutPrefix(req.URL.Path, "/register/")
	methods := map[bool][]string{true: {http.MethodPut, http.MethodDelete}, false: {http.MethodPost}}[isOne]
	if !isOne && req.URL.Path != "/register" {
		return nil, 0, &problem{http.StatusNotFound, "there is nothing but /register"}
	}
	if !slices.Contains(methods, req.Method) {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		return nil, 0, &problem{http.StatusMethodNotAllowed, "use " + strings.Join(methods, " or ")}
	}
	t, err := r.token(req)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case !isOne:
		return r.register(w, req, t)
	case req.Method == http.MethodPut:
		return nil, http.StatusNoContent, r.renew(id, t)
	}
	return nil, http.StatusNoContent, r.leave(req.Context(), id, t)
}

// token returns the token of a request. Networks that give wrong ones are slowed down,
// but not those in them who give a right one.
func (r *Registry) token(req *http.Request) (t model.RegistrationToken, err error) {
	client, _ := netip.ParseAddrPort(req.RemoteAddr)
	from := networkOf(client.Addr())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conf == nil { // and so nothing can be said of the token
		return t, errNobody
	}
	if t, ok := r.given(req); ok {
		return t, nil
	}
	if r.wrong.tooMany(from, r.now()) {
		return t, &problem{http.StatusTooManyRequests, "too many wrong tokens"}
	}
	r.wrong.count(from, r.now())
	r.log.Warn("wrong token", "client", client.Addr().String())
	return t, &problem{http.StatusUnauthorized, "no token, or a wrong one: send Authorization: Bearer and the token"}
}

// given returns the token that a request carries, in the same time whatever it gives.
// The caller holds r.mu.
func (r *Registry) given(req *http.Request) (t model.RegistrationToken, ok bool) {
	scheme, given, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return t, false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	for _, x := range r.conf.Tokens {
		if x.Token == "" {
			continue
		}
		own := sha256.Sum256([]byte(x.Token))
		if subtle.ConstantTimeCompare(sum[:], own[:]) == 1 {
			t, ok = x, true
		}
	}
	return t, ok
}

// register makes a backend one of the pool of its token, or renews its lease.
func (r *Registry) register(w http.ResponseWriter, req *http.Request, t model.RegistrationToken) (any, int, error) {
	x, ttl, err := readRequest(w, req, t)
	if err != nil {
		return nil, 0, err
	}
	k := key{t.Pool, x.Address}
	answer := Registered{ID: idOf(k), Pool: k.pool, Address: k.backend, TTL: int(ttl / time.Second)}
	known, err := r.again(req.Context(), k, x, ttl)
	if known || err != nil {
		return answer, http.StatusOK, err
	}
	rev, err := r.plane.Change(req.Context(), control.Request{
		Who:   who(t, req),
		Edits: []control.Edit{{Op: control.OpAddBackend, Pool: k.pool, Backend: k.backend, Weight: x.Weight, Lease: ttl}},
	})
	if errors.Is(err, control.ErrExists) { // another request of the same backend, or a rollback, may have been faster
		r.follow()
		if known, _ := r.again(req.Context(), k, x, ttl); known {
			return answer, http.StatusOK, nil
		}
	}
	if err != nil {
		return nil, 0, err
	}
	r.lease(k, &lease{id: answer.ID, ttl: ttl, end: r.now().Add(ttl), revision: rev.Number, weight: weightOf(x.Weight)})
	r.wake()
	return answer, http.StatusCreated, nil
}

// lease keeps the lease of a backend that was added, unless somebody has taken it away
// since.
func (r *Registry) lease(k key, l *lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.plane.Edits(), func(e control.Edit) bool { return leases(&e) && keyOf(&e) == k }) {
		r.leases[k] = l
	}
}

// again renews the lease of a backend that has registered before, if it has.
func (r *Registry) again(ctx context.Context, k key, x Request, ttl time.Duration) (known bool, err error) {
	r.mu.Lock()
	l := r.leases[k]
	if l == nil || l.going {
		r.mu.Unlock()
		if l != nil {
			err = &problem{http.StatusServiceUnavailable, "the backend is just being taken away: try again"}
		}
		return false, err
	}
	if end := r.now().Add(ttl); end.Before(l.end) {
		r.wake()
	}
	l.ttl, l.end = ttl, r.now().Add(ttl)
	moved := l.weight != weightOf(x.Weight)
	r.mu.Unlock()
	if !moved {
		return true, nil
	}
	weight := weightOf(x.Weight)
	_, err = r.plane.Change(ctx, control.Request{
		Who: "registration", Edits: []control.Edit{{Op: control.OpSetWeight, Pool: k.pool, Backend: k.backend, Weight: &weight}},
	})
	if errors.Is(err, control.ErrNotFound) { // somebody has just taken it away
		return false, nil
	}
	if err != nil {
		return true, err
	}
	r.mu.Lock()
	l.weight = weight
	r.mu.Unlock()
	return true, nil
}

// renew renews the lease of an id.
func (r *Registry) renew(id string, t model.RegistrationToken) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, l := r.find(id, t)
	if l == nil || l.going {
		return &problem{http.StatusNotFound, "no backend of that id: register it again"}
	}
	l.end = r.now().Add(l.ttl)
	return nil
}

// leave takes the backend of an id away.
func (r *Registry) leave(ctx context.Context, id string, t model.RegistrationToken) error {
	r.mu.Lock()
	k, l := r.find(id, t)
	if l == nil || l.going {
		r.mu.Unlock()
		return &problem{http.StatusNotFound, "no backend of that id"}
	}
	l.going = true
	e := removal(k, l)
	r.mu.Unlock()
	err := r.remove(ctx, fmt.Sprintf("registration (pool %s)", k.pool), e)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.leases, k)
	} else {
		l.going = false
	}
	return err
}

// find returns the backend of an id that may register with a token.
func (r *Registry) find(id string, t model.RegistrationToken) (key, *lease) {
	for k, l := range r.leases {
		if k.pool != t.Pool || l.id != id {
			continue
		}
		if at, ok := addressOf(k.backend); ok && admits(&t, at.Addr()) {
			return k, l
		}
	}
	return key{}, nil
}

// admits reports whether backends at an address may register with a token.
func admits(t *model.RegistrationToken, addr netip.Addr) bool {
	return len(t.Networks) == 0 || slices.ContainsFunc(t.Networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// wake has Run look when the next lease is over.
func (r *Registry) wake() {
	select {
	case r.earlier <- struct{}{}:
	default: // it will look
	}
}

// who says in the history who made a change.
func who(t model.RegistrationToken, req *http.Request) string {
	client, _ := netip.ParseAddrPort(req.RemoteAddr)
	return fmt.Sprintf("registration from %s (pool %s)", client.Addr().Unmap(), t.Pool)
}

// idOf returns what names a backend in a path. It is no secret.
func idOf(k key) string {
	sum := sha256.Sum256([]byte(k.pool + " " + k.backend))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}

// readRequest reads what a backend says of itself, and holds it against its token.
func readRequest(w http.ResponseWriter, req *http.Request, t model.RegistrationToken) (x Request, ttl time.Duration, err error) {
	d := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&x); err != nil {
		return x, 0, &problem{http.StatusBadRequest, fmt.Sprintf(`the body is not like {"address": "10.0.0.1:8080", "ttl_seconds": 10}: %v`, err)}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return x, 0, &problem{http.StatusBadRequest, "the body has more than one value"}
	}
	if ttl = time.Duration(x.TTL) * time.Second; x.TTL == 0 {
		ttl = min(defaultTTL, t.MaxTTL.Truncate(time.Second))
	}
	if x.TTL < 0 || x.TTL > int(t.MaxTTL/time.Second) || ttl < minTTL {
		return x, 0, &problem{http.StatusBadRequest, fmt.Sprintf("ttl_seconds is not from 1 to %d", int(t.MaxTTL/time.Second))}
	}
	if w := weightOf(x.Weight); w < 0 || w > maxWeight {
		return x, 0, &problem{http.StatusBadRequest, fmt.Sprintf("weight is not from 0 to %d", maxWeight)}
	}
	addr, err := place(&x, req)
	if err != nil {
		return x, 0, err
	}
	if !admits(&t, addr) {
		return x, 0, &problem{http.StatusForbidden, fmt.Sprintf("%s is not in the networks of the token", addr)}
	}
	return x, ttl, nil
}

// place returns where a backend is, and has it written as the configuration has it.
func place(x *Request, req *http.Request) (netip.Addr, error) {
	wrong := &problem{http.StatusBadRequest, "address is not like 10.0.0.1:8080, [2001:db8::1]:8080, :8080 or http://10.0.0.1:8080"}
	if port, ok := strings.CutPrefix(x.Address, ":"); ok {
		client, err := netip.ParseAddrPort(req.RemoteAddr)
		if err != nil {
			return netip.Addr{}, wrong
		}
		host := client.Addr().Unmap().WithZone("").String()
		if client.Addr().Unmap().Is6() {
			host = "[" + host + "]"
		}
		x.Address = host + ":" + port
	}
	if strings.ContainsAny(x.Address, "{}") { // which no URL has, but a variable of the agent's environment
		return netip.Addr{}, wrong
	}
	at, ok := addressOf(x.Address)
	if !ok {
		return netip.Addr{}, wrong
	}
	if !strings.Contains(x.Address, "://") {
		x.Address = at.String()
	}
	return at.Addr(), nil
}

// addressOf returns where a backend is that is an address and a port, or a URL with one.
func addressOf(backend string) (at netip.AddrPort, ok bool) {
	text := backend
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil || u.User != nil {
			return at, false
		}
		if text = u.Host; u.Port() == "" {
			text = u.Host + ":80"
		}
	}
	at, err := netip.ParseAddrPort(text)
	return at, err == nil && at.Port() != 0 && !at.Addr().Is4In6() && at.Addr().Zone() == ""
}
