package certs

import (
	"bytes"
	"cmp"
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
	issued  Issued
}

// Issued has the certificates that an authority gives over ACME; nil has none.
type Issued interface {
	// Certificate also answers the authority itself; see [ALPN].
	Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error)
	// Leaf returns nil if there is none for the name yet.
	Leaf(name string) *x509.Certificate
}

// Sources are where certificates come from that are in no file. A nil one is for
// configurations without.
type Sources struct {
	Issued Issued
	// Secret returns the chain and the key of a secret, as PEM.
	Secret func(path string) (chain, key []byte, err error)
}

// get returns what c names.
func (s *Sources) get(c model.Certificate) (*tls.Certificate, error) {
	if c.Vault == "" {
		return Read(c)
	}
	chain, key, err := s.Secret(c.Vault)
	if err != nil {
		return nil, err
	}
	return join(chain, key, model.Certificate{Cert: c.Vault, Key: c.Vault})
}

// ALPN is what the authority asks for to see whose a name is (RFC 8737).
const ALPN = "acme-tls/1"

// Load reads the files that conf names. Where one of them is bad and old, which
// may be nil, has it, that of old stays: there is a Set then, and the error says
// what is wrong. Without it there is none.
func Load(conf *model.TLS, old *Set, from Sources) (*Set, error) {
	s := &Set{conf: *conf, issued: from.Issued, pairs: make([]*tls.Certificate, len(conf.Certificates)), names: map[string][]*tls.Certificate{}}
	whole := true
	var errs []error
	for i, c := range conf.Certificates {
		pair, err := from.get(c)
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
	if slices.Contains(s.conf.ACME, name) {
		if c, err := s.issued.Certificate(hello); err == nil || len(s.pairs) == 0 {
			return c, err
		}
	}
	fit := s.names[name]
	if fit == nil {
		_, domain, _ := strings.Cut(name, ".")
		fit = s.names["*."+domain]
	}
	if fit == nil {
		fit = s.pairs
	}
	if len(fit) == 0 {
		return nil, errNoName
	}
	for _, pair := range fit {
		if len(fit) == 1 || hello.SupportsCertificate(pair) == nil {
			return pair, nil
		}
	}
	return fit[0], nil
}

// For returns how to serve TLS to a client. It must not be changed.
func (s *Set) For(hello *tls.ClientHelloInfo) *tls.Config {
	if len(s.conf.ACME) > 0 && slices.Equal(hello.SupportedProtos, []string{ALPN}) {
		return &tls.Config{GetCertificate: s.issued.Certificate, NextProtos: []string{ALPN}}
	}
	return s.config
}

// Certificates returns what is known of each. Those of ACME that are not there yet
// have no time.
func (s *Set) Certificates() []Info {
	var all []Info
	for i, pair := range s.pairs {
		c := s.conf.Certificates[i]
		all = append(all, infoOf(cmp.Or(c.Cert, c.Vault), pair.Leaf))
	}
	for _, name := range s.conf.ACME {
		if leaf := s.issued.Leaf(name); leaf != nil {
			all = append(all, infoOf(Managed, leaf))
		} else {
			all = append(all, Info{File: Managed, Names: []string{name}})
		}
	}
	return all
}

// Managed stands for the file of a certificate that comes over ACME.
const Managed = "acme"

var errNoName = errors.New("no certificate for the name")

// Equal reports whether two sets show the same to clients and ask the same of
// them.
func (s *Set) Equal(o *Set) bool {
	return s.conf.MinVersion == o.conf.MinVersion && s.conf.ClientAuth == o.conf.ClientAuth && s.clients.Equal(o.clients) &&
		slices.Equal(s.conf.ACME, o.conf.ACME) &&
		slices.EqualFunc(s.pairs, o.pairs, func(a, b *tls.Certificate) bool {
			return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
		})
}
