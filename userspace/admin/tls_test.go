package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/admin/adminpb/adminpbconnect"
)

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// sign returns a certificate for a name of DNS.
func (a *authority) sign(t *testing.T, name string, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func asItIs(*x509.Certificate) {}

// serveTCP starts a server on TCP, and returns its address and whom clients trust.
func serveTCP(t *testing.T) (w *world, addr string, a *authority) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a = newAuthority(t)
	w = &world{plane: newPlane(), datapath: &datapath{}}
	w.Server = &Server{Plane: w.plane, Datapath: w.datapath, Log: discard}
	w.Use(&Access{Write: Callers{Certificates: []string{"ops.example"}}, Read: Callers{Certificates: []string{"monitor.example"}}})
	w.run(t, w.Secure(l))
	return w, l.Addr().String(), a
}

// speak returns a client by TLS.
func speak(t *testing.T, addr string, c *tls.Config) adminpbconnect.AdminClient {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return adminpbconnect.NewAdminClient(&http.Client{Transport: tr}, "https://"+addr)
}

// turnedAway returns why a handshake fails. The server judges a certificate when its
// client has finished already, who learns of it by reading.
func turnedAway(t *testing.T, addr string, conf *tls.Config) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, conf)
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	return err.Error()
}

// what says what a client of a certificate may do.
func what(t *testing.T, c adminpbconnect.AdminClient) string {
	t.Helper()
	_, err := c.GetStatus(t.Context(), &adminpb.GetStatusRequest{})
	if err != nil {
		if connect.CodeOf(err) == connect.CodePermissionDenied {
			return "nothing"
		}
		return err.Error()
	}
	if _, err := c.Apply(t.Context(), &adminpb.ApplyRequest{}); connect.CodeOf(err) == connect.CodePermissionDenied {
		return "read"
	} else if err != nil {
		return err.Error()
	}
	return "write"
}

func TestCertificatesSayWhoItIs(t *testing.T) {
	w, addr, a := serveTCP(t)
	other := newAuthority(t)
	trusting := func(certs ...*tls.Certificate) *tls.Config {
		c := &tls.Config{RootCAs: a.pool(), ServerName: "fairlead.example"}
		for _, x := range certs {
			c.Certificates = append(c.Certificates, *x)
		}
		return c
	}
	ops := a.sign(t, "ops.example", asItIs)
	if got := turnedAway(t, addr, trusting(ops)); !strings.Contains(got, "tls: ") {
		t.Errorf("before there is a certificate: %s", got)
	}
	w.UseTLS(a.sign(t, "fairlead.example", asItIs), a.pool())
	old := trusting(ops)
	old.MaxVersion = tls.VersionTLS12
	for _, row := range []struct {
		name string
		conf *tls.Config
		want string
	}{
		{"who may write", trusting(ops), "write"},
		{"who may read", trusting(a.sign(t, "monitor.example", asItIs)), "read"},
		{"who may do nothing", trusting(a.sign(t, "other.example", asItIs)), "nothing"},
		{"a common name alone", trusting(a.sign(t, "x.example", func(c *x509.Certificate) { c.Subject.CommonName = "ops.example" })), "nothing"},
	} {
		if got := what(t, speak(t, addr, row.conf)); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
	for _, row := range []struct {
		name string
		conf *tls.Config
		want string // a part of why not
	}{
		{"no certificate", trusting(), "certificate required"},
		{"one of another authority", trusting(other.sign(t, "ops.example", asItIs)), "tls: "},
		{"one that is over", trusting(a.sign(t, "ops.example", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })), "tls: expired certificate"},
		{"one for servers", trusting(a.sign(t, "ops.example", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] })), "tls: bad certificate"},
		{"TLS 1.2", old, "protocol version"},
	} {
		if got := turnedAway(t, addr, row.conf); !strings.Contains(got, row.want) {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
	// From now on the other authority is trusted, and nobody may write.
	w.UseTLS(a.sign(t, "fairlead.example", asItIs), other.pool())
	w.Use(&Access{Read: Callers{Certificates: []string{"ops.example"}}})
	if got := what(t, speak(t, addr, trusting(other.sign(t, "ops.example", asItIs)))); got != "read" {
		t.Errorf("after a change: %s", got)
	}
	if got := turnedAway(t, addr, trusting(ops)); !strings.Contains(got, "tls: ") {
		t.Errorf("whose authority is trusted no more: %s", got)
	}
}

func TestTCPIsNotSpokenWithoutTLS(t *testing.T) {
	w, addr, a := serveTCP(t)
	w.UseTLS(a.sign(t, "fairlead.example", asItIs), a.pool())
	client := over(t, false, func() (net.Conn, error) { return net.Dial("tcp", addr) })
	r, err := client.Post("http://fairlead/fairlead.admin.v1.Admin/GetStatus", "application/json", strings.NewReader("{}"))
	if err != nil {
		return
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusBadRequest {
		t.Errorf("answered with status %d", r.StatusCode)
	}
}

// TestAChangeOfRolesHoldsForOpenConnections has somebody lose a role between two
// calls.
func TestAChangeOfRolesHoldsForOpenConnections(t *testing.T) {
	w, addr, a := serveTCP(t)
	w.UseTLS(a.sign(t, "fairlead.example", asItIs), a.pool())
	ops := a.sign(t, "ops.example", asItIs)
	c := speak(t, addr, &tls.Config{RootCAs: a.pool(), ServerName: "fairlead.example", Certificates: []tls.Certificate{*ops}})
	if got := what(t, c); got != "write" {
		t.Fatal(got)
	}
	w.Use(nil)
	if got := what(t, c); got != "nothing" {
		t.Errorf("%s, want nothing", got)
	}
}
