package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"

	"fairlead/userspace/model"
)

// A Set is the certificates of a service, and whom it asks for theirs. It does
// not change.
type Set struct {
	conf    model.TLS
	pairs   []*tls.Certificate // by index of conf.Certificates
	clients *x509.CertPool     // nil: nobody is asked
	names   map[string][]*tls.Certificate
	config  *tls.Config
}

// Load reads the files that conf names. Where one of them is bad and old, which
// may be nil, has it, that of old stays: there is a Set then, and the error says
// what is wrong. Without it there is none.
func Load(conf *model.TLS, old *Set) (*Set, error) {
	s := &Set{conf: *conf, pairs: make([]*tls.Certificate, len(conf.Certificates)), names: map[string][]*tls.Certificate{}}
	whole := true
	var errs []error
	for i, c := range conf.Certificates {
		pair, err := Read(c)
		if err != nil {
			errs = append(errs, err)
			pair = old.pair(c)
		}
		s.pairs[i], whole = pair, whole && pair != nil
	}
	if conf.ClientCA != "" {
		pool, err := ReadPool(conf.ClientCA)
		if err != nil {
			errs = append(errs, err)
			pool = old.pool(conf.ClientCA)
		}
		s.clients, whole = pool, whole && pool != nil
	}
	if !whole {
		return nil, errors.Join(errs...)
	}
	s.index()
	s.config = s.newConfig()
	return s, errors.Join(errs...)
}

// pair returns a certificate that the set has read before, nil if it has not.
func (s *Set) pair(c model.Certificate) *tls.Certificate {
	if s == nil {
		return nil
	}
	for i := range s.pairs {
		if s.conf.Certificates[i] == c {
			return s.pairs[i]
		}
	}
	return nil
}

func (s *Set) pool(file string) *x509.CertPool {
	if s == nil || s.conf.ClientCA != file {
		return nil
	}
	return s.clients
}

func (s *Set) index() {
	for _, pair := range s.pairs {
		for _, name := range pair.Leaf.DNSNames {
			name = strings.ToLower(name)
			s.names[name] = append(s.names[name], pair)
		}
	}
}

func (s *Set) newConfig() *tls.Config {
	c := &tls.Config{
		GetCertificate: s.choose, MinVersion: s.conf.MinVersion, ClientCAs: s.clients,
		NextProtos: []string{"h2", "http/1.1"},
	}
	switch s.conf.ClientAuth {
	case model.ClientRequired:
		c.ClientAuth = tls.RequireAndVerifyClientCert
	case model.ClientOptional:
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return c
}

// choose returns the certificate that is for the name the client asks for: for
// just that, or else for all names of its domain, or else the first. Of several
// it is the first that the client can use.
func (s *Set) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	fit := s.names[name]
	if fit == nil {
		_, domain, _ := strings.Cut(name, ".")
		fit = s.names["*."+domain]
	}
	if fit == nil {
		fit = s.pairs
	}
	for _, pair := range fit {
		if len(fit) == 1 || hello.SupportsCertificate(pair) == nil {
			return pair, nil
		}
	}
	return fit[0], nil
}

// Config returns how to serve TLS with the set. It must not be changed.
func (s *Set) Config() *tls.Config { return s.config }

// Certificates returns what is known of each.
func (s *Set) Certificates() []Info {
	all := make([]Info, len(s.pairs))
	for i, pair := range s.pairs {
		all[i] = infoOf(s.conf.Certificates[i].Cert, pair.Leaf)
	}
	return all
}

// Equal reports whether two sets show the same to clients and ask the same of
// them.
func (s *Set) Equal(o *Set) bool {
	return s.conf.MinVersion == o.conf.MinVersion && s.conf.ClientAuth == o.conf.ClientAuth && s.clients.Equal(o.clients) &&
		slices.EqualFunc(s.pairs, o.pairs, func(a, b *tls.Certificate) bool {
			return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
		})
}
