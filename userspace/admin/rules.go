package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"time"
)

// Rules say who may do what. They do not change; others take their place.
type rules struct {
	access *Access
	tls    *tls.Config
	over   chan struct{} // closed when others hold
}

// now returns the rules that hold.
func (s *Server) now() *rules {
	if r := s.rules.Load(); r != nil {
		return r
	}
	s.rules.CompareAndSwap(nil, &rules{over: make(chan struct{})})
	return s.rules.Load()
}

// rule has rules that differ hold from now on.
func (s *Server) rule(differ func(*rules)) {
	for {
		was := s.now()
		next := *was
		next.over = make(chan struct{})
		differ(&next)
		if s.rules.CompareAndSwap(was, &next) {
			close(was.over)
			return
		}
	}
}

// judge returns what a caller may do, until when if that is known. The error says why
// a certificate that was taken once is so no more.
func (r *rules) judge(who caller) (has Role, until time.Time, err error) {
	if who.cert != nil {
		if until, err = who.chain.verify(r.tls); err != nil {
			return RoleNone, until, err
		}
	}
	return r.access.role(who), until, nil
}

// A chain is what a client has shown in the handshake of a connection.
type chain struct {
	certs []*x509.Certificate // its own is the first
	last  *atomic.Pointer[verdict]
}

// A verdict is that a chain is good until it is over, by what was trusted.
type verdict struct {
	by    *tls.Config
	until time.Time
}

// verify finds why a chain is no good by what is trusted, or until when it is good. It is
// asked at each call, and does not work it out twice.
func (c *chain) verify(by *tls.Config) (until time.Time, err error) {
	if v := c.last.Load(); v != nil && v.by == by && time.Now().Before(v.until) {
		return v.until, nil
	}
	options := x509.VerifyOptions{Roots: by.ClientCAs, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, above := range c.certs[1:] {
		options.Intermediates.AddCert(above)
	}
	good, err := c.certs[0].Verify(options)
	if err != nil {
		return time.Time{}, err
	}
	until = c.certs[0].NotAfter
	for _, cert := range good[0] {
		if cert.NotAfter.Before(until) {
			until = cert.NotAfter
		}
	}
	until = until.Add(1) // at NotAfter itself it is good
	c.last.Store(&verdict{by, until})
	return until, nil
}

// watch calls end once a caller may no longer do what needs a role, and returns then, or
// when ctx is done.
func (s *Server) watch(ctx context.Context, who caller, needs Role, end func(error)) {
	for {
		r := s.now()
		has, until, err := r.judge(who)
		if has < needs {
			end(err)
			return
		}
		var over <-chan time.Time
		if !until.IsZero() {
			over = time.After(time.Until(until))
		}
		select {
		case <-ctx.Done():
			return
		case <-r.over:
		case <-over:
		}
	}
}
