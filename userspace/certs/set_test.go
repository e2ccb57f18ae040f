package certs

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead/testenv/leak"
	"fairlead/testenv/testca"
	"fairlead/userspace/model"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

func issue(ca *testca.CA, l testca.Leaf) model.Certificate {
	cert, key := ca.Issue(l)
	return model.Certificate{Cert: cert, Key: key}
}

// load returns a set that must be good.
func load(t *testing.T, conf model.TLS) *Set {
	t.Helper()
	s, err := Load(&conf, nil, Sources{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shake has a client shake hands with a set, and returns what each saw.
func shake(t *testing.T, s *Set, client *tls.Config) (saw tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	ours, theirs := net.Pipe()
	served := make(chan error, 1)
	go func() {
		server := tls.Server(ours, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { return s.For(h), nil }})
		err := server.HandshakeContext(t.Context())
		if err == nil {
			_, err = server.Write([]byte("x"))
		}
		ours.Close()
		served <- err
	}()
	c := tls.Client(theirs, client)
	clientErr = c.HandshakeContext(t.Context())
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1)) // which tells of a certificate that was refused
	}
	theirs.Close()
	return c.ConnectionState(), clientErr, <-served
}

func TestTheCertificateFitsTheName(t *testing.T) {
	ca := testca.New(t)
	s := load(t, model.TLS{MinVersion: tls.VersionTLS12, Certificates: []model.Certificate{
		issue(ca, testca.Leaf{Names: []string{"first.example"}}),
		issue(ca, testca.Leaf{Names: []string{"*.example.com", "Example.com"}}),
		issue(ca, testca.Leaf{Names: []string{"www.example.com", "both.example"}}),
		issue(ca, testca.Leaf{Names: []string{"both.example"}, RSA: true}),
	}})
	rsaOnly := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	for _, row := range []struct {
		name   string
		suites []uint16
		want   int
	}{
		{"first.example", nil, 0},
		{"example.com", nil, 1},
		{"EXAMPLE.com.", nil, 1},
		{"a.example.com", nil, 1},
		{"www.example.com", nil, 2}, // more than the wildcard
		{"a.b.example.com", nil, 0}, // a wildcard is for one label
		{"both.example", nil, 2},
		{"both.example", rsaOnly, 3},
		{"elsewhere.example", nil, 0},
		{"", nil, 0},
		{"", rsaOnly, 3}, // the first that the client can use
		{"192.0.2.1", nil, 0},
	} {
		client := &tls.Config{ServerName: row.name, InsecureSkipVerify: true, CipherSuites: row.suites}
		if row.suites != nil {
			client.MaxVersion = tls.VersionTLS12
		}
		saw, err, _ := shake(t, s, client)
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		if !saw.PeerCertificates[0].Equal(s.pairs[row.want].Leaf) {
			t.Errorf("%s: shown the certificate of %v, want number %d", row.name, saw.PeerCertificates[0].DNSNames, row.want)
		}
	}
}

func TestWhoMayCome(t *testing.T) {
	ca, foreign := testca.New(t), testca.New(t)
	own := []model.Certificate{issue(ca, testca.Leaf{Names: []string{"example.com"}})}
	mine, theirs := ca.Pair("client"), foreign.Pair("client")
	for _, row := range []struct {
		name string
		conf model.TLS
		max  uint16
		show *tls.Certificate
		ok   bool
	}{
		{"TLS 1.2", model.TLS{MinVersion: tls.VersionTLS12}, tls.VersionTLS12, nil, true},
		{"TLS 1.1", model.TLS{MinVersion: tls.VersionTLS12}, tls.VersionTLS11, nil, false},
		{"TLS 1.2 where 1.3 is the least", model.TLS{MinVersion: tls.VersionTLS13}, tls.VersionTLS12, nil, false},
		{"TLS 1.3", model.TLS{MinVersion: tls.VersionTLS13}, tls.VersionTLS13, nil, true},
		{"required and shown", model.TLS{ClientCA: ca.File, ClientAuth: model.ClientRequired}, 0, &mine, true},
		{"required and not shown", model.TLS{ClientCA: ca.File, ClientAuth: model.ClientRequired}, 0, nil, false},
		{"required and foreign", model.TLS{ClientCA: ca.File, ClientAuth: model.ClientRequired}, 0, &theirs, false},
		{"optional and shown", model.TLS{ClientCA: ca.File, ClientAuth: model.ClientOptional}, 0, &mine, true},
		{"optional and not shown", model.TLS{ClientCA: ca.File, ClientAuth: model.ClientOptional}, 0, nil, true},
		{"optional and foreign", model.TLS{ClientCA: ca.File, ClientAuth: model.ClientOptional}, 0, &theirs, false},
	} {
		row.conf.Certificates = own
		client := &tls.Config{ServerName: "example.com", RootCAs: ca.Pool(), MaxVersion: row.max, MinVersion: tls.VersionTLS10}
		if row.show != nil {
			client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return row.show, nil }
		}
		_, clientErr, serverErr := shake(t, load(t, row.conf), client)
		if ok := clientErr == nil && serverErr == nil; ok != row.ok {
			t.Errorf("%s: client %v, server %v", row.name, clientErr, serverErr)
		}
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBadFiles(t *testing.T) {
	ca := testca.New(t)
	good, other := issue(ca, testca.Leaf{}), issue(ca, testca.Leaf{})
	missing, text := filepath.Join(t.TempDir(), "none.pem"), write(t, "hello")
	encrypted := write(t, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	garbled := write(t, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	for _, row := range []struct{ name, cert, key, want string }{
		{"a certificate that is missing", missing, good.Key, "read certificate: open " + missing + ": no such file or directory"},
		{"a key that is missing", good.Cert, missing, "read key: open " + missing + ": no such file or directory"},
		{"no PEM", text, good.Key, "read certificate: " + text + " holds none: it must be PEM, the server's own certificate first"},
		{"a key in place of the certificate", good.Key, good.Key, "read certificate: " + good.Key + " holds none: it must be PEM, the server's own certificate first"},
		{"a certificate in place of the key", good.Cert, good.Cert, "read key: " + good.Cert + " holds none: it must be PEM"},
		{"a passphrase", good.Cert, encrypted, "read key: " + encrypted + " is encrypted: give one without a passphrase"},
		{"another key", good.Cert, other.Key, "join certificate " + good.Cert + " and key " + other.Key + ": tls: private key does not match public key"},
		{"garbage in PEM", garbled, good.Key, "join certificate " + garbled + " and key " + good.Key + ": x509: malformed certificate"},
	} {
		if _, err := Read(model.Certificate{Cert: row.cert, Key: row.key}); err == nil || err.Error() != row.want {
			t.Errorf("%s: error %v, want %s", row.name, err, row.want)
		}
	}
	if _, err := ReadPool(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("authorities that are missing: %v", err)
	}
	if _, err := ReadPool(text); err == nil || !strings.HasSuffix(err.Error(), text+" holds no certificate: it must be PEM") {
		t.Errorf("authorities without PEM: %v", err)
	}
}

func TestABadNewFileKeepsTheOldCertificate(t *testing.T) {
	ca := testca.New(t)
	conf := model.TLS{ClientCA: ca.File, ClientAuth: model.ClientOptional, Certificates: []model.Certificate{issue(ca, testca.Leaf{}), issue(ca, testca.Leaf{})}}
	first := load(t, conf)
	breakFile := func(path string) {
		if err := os.WriteFile(path, []byte("half a certi"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	breakFile(conf.Certificates[0].Cert)
	ca.Issue(testca.Leaf{Cert: conf.Certificates[1].Cert, Key: conf.Certificates[1].Key})
	second, err := Load(&conf, first, Sources{})
	if err == nil || second == nil {
		t.Fatal(second, err)
	}
	if second.pairs[0] != first.pairs[0] || second.pairs[1] == first.pairs[1] || second.Equal(first) {
		t.Error("not just the certificate that is good was taken")
	}
	breakFile(ca.File)
	third, err := Load(&conf, second, Sources{})
	if third == nil || third.clients != second.clients || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("bad authorities: %v", err)
	}
	if !third.Equal(second) {
		t.Error("two sets of the same certificates differ")
	}
	if none, err := Load(&conf, nil, Sources{}); none != nil || err == nil {
		t.Error("a set without one of its certificates")
	}
}

func TestClientsOfBackends(t *testing.T) {
	ca, other := testca.New(t), testca.New(t)
	conf := model.BackendTLS{CA: ca.File, ServerName: "app", Certificate: issue(ca, testca.Leaf{})}
	first, err := Client(&conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	if first.ServerName != "app" || first.RootCAs == nil || len(first.Certificates) != 1 || first.InsecureSkipVerify {
		t.Errorf("%+v", first)
	}
	if again, err := Client(&conf, first); again != first || err != nil {
		t.Error("another configuration of the same files:", err)
	}
	conf.CA = other.File
	if next, err := Client(&conf, first); next == first || err != nil {
		t.Error("the same configuration of another authority:", err)
	}
	conf.Certificate.Key = ca.File
	if _, err := Client(&conf, first); err == nil {
		t.Error("no error with a bad key")
	}
}
