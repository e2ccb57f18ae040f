// Package acme gets certificates from an authority that speaks ACME (RFC 8555),
// and renews them.
//
// What the authority asks is answered over the sockets of the services: see
// [Manager.Answer] (http-01) and [Manager.Certificate] (tls-alpn-01). The protocol
// and the times of renewals are certmagic's; which names, and who shows the
// certificates, is not this package's concern.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"fairlead/userspace/certs"
	"fairlead/userspace/model"
)

// A Manager has certificates of names, or is about to have them.
type Manager struct {
	conf   model.ACME
	log    *slog.Logger
	cache  *certmagic.Cache
	magic  *certmagic.Config
	issuer *certmagic.ACMEIssuer
	ctx    context.Context // of what goes on in the background
	stop   context.CancelFunc
	decoy  *net.TCPListener
	lured  sync.WaitGroup
	names  []string
}

// Open returns a Manager of no names, to be closed. It asks the authority nothing.
// An error means that the storage is no directory of ours alone, that the file of
// authorities is bad, or that the host has no socket left.
func Open(conf *model.ACME, log *slog.Logger) (*Manager, error) {
	if err := checkStorage(conf.Storage); err != nil {
		return nil, err
	}
	var roots *x509.CertPool
	var err error
	if conf.CA != "" {
		if roots, err = certs.ReadPool(conf.CA); err != nil {
			return nil, err
		}
	}
	m := &Manager{conf: *conf, log: log}
	if m.decoy, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		return nil, fmt.Errorf("listen for certmagic: %w", err)
	}
	m.lured.Go(m.lure)
	m.ctx, m.stop = context.WithCancel(context.Background())
	quiet := zap.NewNop()
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return m.magic, nil }, Logger: quiet,
	})
	m.magic = certmagic.New(m.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: conf.Storage}, OnEvent: m.event, Logger: quiet,
		OCSP: certmagic.OCSPConfig{DisableStapling: true}, // nobody is to wait for it
	})
	port := m.decoy.Addr().(*net.TCPAddr).Port
	m.issuer = certmagic.NewACMEIssuer(m.magic, certmagic.ACMEIssuer{
		CA: conf.Directory, Email: conf.Email, Agreed: true, TrustedRoots: roots, Logger: quiet,
		DisableHTTPChallenge:    !slices.Contains(conf.Challenges, model.ChallengeHTTP),
		DisableTLSALPNChallenge: !slices.Contains(conf.Challenges, model.ChallengeALPN),
		ListenHost:              "127.0.0.1", AltHTTPPort: port, AltTLSALPNPort: port,
	})
	m.magic.Issuers = []certmagic.Issuer{m.issuer}
	return m, nil
}

// checkStorage makes the directory of keys, or looks whether it is ours alone.
func checkStorage(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make storage: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at storage: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("look at storage: %s holds keys but is open to other users: chmod 700 %s", dir, dir)
	}
	return nil
}

// lure lets certmagic find that somebody listens where it would answer challenges
// by itself: then it leaves them to the services.
func (m *Manager) lure() {
	for {
		c, err := m.decoy.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			c.Close()
		}
	}
}

// event logs what has become of a certificate.
func (m *Manager) event(_ context.Context, event string, data map[string]any) error {
	name := data["identifier"]
	switch event {
	case "cert_obtained":
		m.log.Info("certificate obtained", "name", name, "renewal", data["renewal"])
	case "cert_failed":
		m.log.Error("certificate not obtained, tried again later", "name", name, "err", data["error"])
	}
	return nil
}

// Is reports whether the manager is of that configuration.
func (m *Manager) Is(conf *model.ACME) bool {
	return reflect.DeepEqual(&m.conf, conf)
}

// Manage makes names the ones to have certificates of. Those that the storage has
// are there when it returns; others come, and are renewed, in the background.
func (m *Manager) Manage(names []string) error {
	var gone []certmagic.SubjectIssuer
	var fresh []string
	for _, name := range m.names {
		if !slices.Contains(names, name) {
			gone = append(gone, certmagic.SubjectIssuer{Subject: name})
		}
	}
	for _, name := range names {
		if !slices.Contains(m.names, name) {
			fresh = append(fresh, name)
		}
	}
	m.cache.RemoveManaged(gone)
	m.names = slices.Clone(names)
	if err := m.magic.ManageAsync(m.ctx, fresh); err != nil {
		return fmt.Errorf("load certificates: %w", err)
	}
	return nil
}

// Certificate returns the certificate for the name that a client asks for, or the
// one by which tls-alpn-01 is answered.
func (m *Manager) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return m.magic.GetCertificate(hello)
}

// Leaf returns the certificate of a name, nil if there is none yet.
func (m *Manager) Leaf(name string) *x509.Certificate {
	for _, c := range m.cache.AllMatchingCertificates(name) {
		return c.Leaf
	}
	return nil
}

// Answer answers a request of the authority (http-01), or returns false if it is
// none.
func (m *Manager) Answer(w http.ResponseWriter, r *http.Request) bool {
	return m.issuer.HandleHTTPChallenge(w, r)
}

// Close ends what goes on in the background.
func (m *Manager) Close() {
	m.stop()
	m.cache.Stop()
	m.decoy.Close()
	m.lured.Wait()
}
