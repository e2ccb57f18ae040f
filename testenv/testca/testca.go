// Package testca is an authority that makes certificates for tests, as files in
// PEM.
package testca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A CA is an authority. File holds its certificate.
type CA struct {
	File string

	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
}

// New returns an authority of its own.
func New(t testing.TB) *CA {
	t.Helper()
	ca := &CA{t: t, key: newKey(t, false), File: filepath.Join(t.TempDir(), "ca.pem")}
	ca.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := ca.sign(ca.cert, ca.key)
	write(t, ca.File, "CERTIFICATE", der)
	return ca
}

// A Leaf says what a certificate is for.
type Leaf struct {
	Names []string      // of hosts, or addresses
	Life  time.Duration // from now; 0 is an hour
	RSA   bool          // instead of ECDSA
	// Cert and Key are the files to write; "" are new ones.
	Cert, Key string
}

// Issue writes a certificate and its key, and returns their files. A client may
// show it too.
func (ca *CA) Issue(l Leaf) (cert, key string) {
	ca.t.Helper()
	if l.Cert == "" {
		dir := ca.t.TempDir()
		l.Cert, l.Key = filepath.Join(dir, "leaf.pem"), filepath.Join(dir, "leaf.key")
	}
	if l.Life == 0 {
		l.Life = time.Hour
	}
	c := &x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(l.Life), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range l.Names {
		if ip := net.ParseIP(name); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
			continue
		}
		c.DNSNames = append(c.DNSNames, name)
	}
	signer := newKey(ca.t, l.RSA)
	der := ca.sign(c, signer)
	secret, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		ca.t.Fatal(err)
	}
	write(ca.t, l.Cert, "CERTIFICATE", der)
	write(ca.t, l.Key, "PRIVATE KEY", secret)
	return l.Cert, l.Key
}

// Pair issues a certificate and returns it as servers and clients take it.
func (ca *CA) Pair(names ...string) tls.Certificate {
	ca.t.Helper()
	pair, err := tls.LoadX509KeyPair(ca.Issue(Leaf{Names: names}))
	if err != nil {
		ca.t.Fatal(err)
	}
	return pair
}

// Pool returns a pool of this authority alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// sign fills c in, which the authority itself may be.
func (ca *CA) sign(c *x509.Certificate, key crypto.Signer) []byte {
	ca.t.Helper()
	var err error
	if c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		ca.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca.cert, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	if signed, err := x509.ParseCertificate(der); err == nil && c == ca.cert {
		ca.cert = signed
	}
	return der
}

func newKey(t testing.TB, isRSA bool) (key crypto.Signer) {
	t.Helper()
	var err error
	if isRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// write puts a file in place in one step.
func write(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	temp := path + ".new"
	if err := os.WriteFile(temp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, path); err != nil {
		t.Fatal(err)
	}
}
