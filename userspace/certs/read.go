// Package certs keeps the certificates of services: it reads them from files,
// chooses one for each client, and reads again what has changed.
//
// A [Set] is what a service shows; it does not change, so that a handshake sees
// one state of all files. The package opens no socket: servers and transports
// get a [tls.Config].
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"fairlead/internal/regular"
	"fairlead/userspace/model"
)

// Read returns the certificate and key of two files of PEM: the chain, the
// server's own certificate first, and its key. Errors name the file.
func Read(c model.Certificate) (*tls.Certificate, error) {
	chain, err := regular.Read(c.Cert)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	key, err := regular.Read(c.Key)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	return join(chain, key, c)
}

// join makes one of what c names.
func join(chain, key []byte, c model.Certificate) (*tls.Certificate, error) {
	if err := looksRight(chain, key, c); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("join certificate %s and key %s: %w", c.Cert, c.Key, err)
	}
	return &pair, nil
}

// looksRight finds what people mix up, for which crypto/tls has no clear words.
func looksRight(chain, key []byte, c model.Certificate) error {
	var has, encrypted bool
	for b, rest := pem.Decode(chain); b != nil; b, rest = pem.Decode(rest) {
		has = has || b.Type == "CERTIFICATE"
	}
	if !has {
		return fmt.Errorf("read certificate: %s holds none: it must be PEM, the server's own certificate first", c.Cert)
	}
	has = false
	for b, rest := pem.Decode(key); b != nil; b, rest = pem.Decode(rest) {
		has = has || strings.HasSuffix(b.Type, "PRIVATE KEY")
		encrypted = encrypted || strings.HasPrefix(b.Type, "ENCRYPTED") || strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED")
	}
	switch {
	case !has:
		return fmt.Errorf("read key: %s holds none: it must be PEM", c.Key)
	case encrypted:
		return fmt.Errorf("read key: %s is encrypted: give one without a passphrase", c.Key)
	}
	return nil
}

// ReadPool returns the authorities of a file of PEM. Errors name the file.
func ReadPool(file string) (*x509.CertPool, error) {
	data, err := regular.Read(file)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read authorities: %s holds no certificate: it must be PEM", file)
	}
	return pool, nil
}

// Client returns how to speak TLS to the backends of a pool: old itself, which may
// be nil, if that says the same. An error names the file that is at fault.
func Client(conf *model.BackendTLS, old *tls.Config) (*tls.Config, error) {
	c := &tls.Config{ServerName: conf.ServerName, InsecureSkipVerify: conf.SkipVerify}
	var errs []error
	var err error
	if conf.CA != "" {
		c.RootCAs, err = ReadPool(conf.CA)
		errs = append(errs, err)
	}
	if conf.Certificate.Cert != "" {
		pair, err := Read(conf.Certificate)
		errs = append(errs, err)
		if err == nil {
			c.Certificates = []tls.Certificate{*pair}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if old != nil && sameClient(c, old) {
		return old, nil
	}
	return c, nil
}

func sameClient(a, b *tls.Config) bool {
	return a.ServerName == b.ServerName && a.InsecureSkipVerify == b.InsecureSkipVerify && a.RootCAs.Equal(b.RootCAs) &&
		slices.EqualFunc(a.Certificates, b.Certificates, func(a, b tls.Certificate) bool {
			return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
		})
}

// An Info says of a certificate what people want to know.
type Info struct {
	File     string // of the certificate, or its secret, or [Managed]
	Names    []string
	Issuer   string
	NotAfter time.Time
}

func infoOf(file string, leaf *x509.Certificate) Info {
	i := Info{File: file, Names: leaf.DNSNames, Issuer: leaf.Issuer.CommonName, NotAfter: leaf.NotAfter}
	for _, ip := range leaf.IPAddresses {
		i.Names = append(i.Names, ip.String())
	}
	return i
}
