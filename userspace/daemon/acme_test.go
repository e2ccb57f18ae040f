package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/testenv/testca"
	"fairlead/userspace/view"
)

// An authority is Pebble, which asks names wherever these tests listen.
type authority struct {
	directory, ca string
	roots         *x509.CertPool
	cmd           *exec.Cmd
}

// plainSite is where Pebble asks over HTTP; over TLS it asks the site.
var plainSite = netip.AddrPortFrom(loopback, 20181)

// authorize starts an authority.
func authorize(t *testing.T) *authority {
	t.Helper()
	path, err := exec.Command("../../scripts/pebble-fetch.sh").Output()
	if err != nil {
		t.Fatal("build pebble:", err)
	}
	ca := testca.New(t)
	cert, key := ca.Issue(testca.Leaf{Names: []string{"127.0.0.1"}})
	at, manage := testenv.FreeAddress(t), testenv.FreeAddress(t)
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": at, "managementListenAddress": manage, "certificate": cert, "privateKey": key,
		"httpPort": plainSite.Port(), "tlsPort": netip.MustParseAddrPort(site).Port(), "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pebble.json")
	if err := os.WriteFile(file, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	a := &authority{directory: "https://" + at + "/dir", ca: ca.File}
	log := &stage.Output{}
	a.cmd = exec.Command(strings.TrimSpace(string(path)), "-config", file, "-dnsserver", resolve(t))
	a.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	a.cmd.Stdout, a.cmd.Stderr = log, log
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.end()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	await(t, "the authority's root", func() bool {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, DisableKeepAlives: true}, Timeout: 20 * time.Second}
		res, err := client.Get("https://" + manage + "/roots/0")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		root, err := io.ReadAll(res.Body)
		a.roots = x509.NewCertPool()
		return err == nil && a.roots.AppendCertsFromPEM(root)
	})
	return a
}

// end ends the authority, if it is still there.
func (a *authority) end() {
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait() // says that it was killed
}

// resolve opens a DNS server, on TCP, to which every name has the tests' address.
func resolve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, func(c net.Conn) {
		for answerDNS(c) == nil {
		}
	})
	return l.Addr().String()
}

// answerDNS answers one question.
func answerDNS(c net.Conn) error {
	var size uint16
	if err := binary.Read(c, binary.BigEndian, &size); err != nil {
		return err
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		return err
	}
	m.Response, m.Additionals = true, nil
	for _, q := range m.Questions {
		if q.Type == dnsmessage.TypeA {
			h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: loopback.As4()}})
		}
	}
	answer, err := m.Pack()
	if err != nil {
		return err
	}
	_, err = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	return err
}

// certified is a site with a certificate of the authority, and a plain one.
func (a *authority) certified(backend, storage, challenge, tls string) string {
	return fmt.Sprintf(`acme: {agree: true, directory: %q, ca: %s, storage: %s, challenges: [%s]}
services:
  - {name: web, listen: '%s', forward: http, tls: {acme: [www.example.com]%s}, backends: [{address: %q}], health: {type: none}}
  - {name: plain, listen: '%s', forward: http, redirect-https: true}
`, a.directory, a.ca, storage, challenge, site, tls, backend, plainSite)
}

// shown returns the serial number of the certificate that the site shows.
func (a *authority) shown(t *testing.T) (serial string, ok bool) {
	d := tls.Dialer{Config: &tls.Config{RootCAs: a.roots, ServerName: "www.example.com"}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", site)
	if err != nil {
		return "", false
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String(), true
}

func TestCertificatesOverACME(t *testing.T) {
	a := authorize(t)
	backend, _ := page(t, "web")
	for _, row := range []struct{ challenge, tls string }{
		{"http-01", ""},
		{"tls-alpn-01", ", min-version: 1.3, client-ca: " + a.ca + ", client-auth: optional"},
	} {
		t.Run(row.challenge, func(t *testing.T) {
			storage := filepath.Join(t.TempDir(), "acme")
			r := runAgent(t, a.certified(backend, storage, row.challenge, row.tls))
			var serial string
			await(t, "a certificate", func() (ok bool) { serial, ok = a.shown(t); return ok })
			r.await("its time", func(v view.View) bool {
				c := v.Services[0].Certificates
				return len(c) == 1 && c[0].File == "acme" && len(c[0].Names) == 1 && c[0].Names[0] == "www.example.com" && c[0].NotAfter.After(time.Now())
			})
			checkModes(t, storage)
			r.reload(a.certified(backend, storage, row.challenge, row.tls+", hsts: {}"))
			await(t, "the reload", func() bool { return strings.Contains(headersOf(t, a), "Strict-Transport-Security") })
			if got, ok := a.shown(t); got != serial || !ok {
				t.Errorf("certificate %s after a reload, before it %s", got, serial)
			}
			r.reload("services: []\n")
			r.await("no service", func(v view.View) bool { return len(v.Services) == 0 })
			r.reload(a.certified(backend, storage, row.challenge, row.tls))
			await(t, "the service", func() (ok bool) { _, ok = a.shown(t); return ok })
			if got, _ := a.shown(t); got != serial {
				t.Errorf("certificate %s of another manager, want %s of the storage", got, serial)
			}
		})
	}
}

// headersOf returns the header of an answer of the site.
func headersOf(t *testing.T, a *authority) string {
	c := http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: a.roots, ServerName: "www.example.com"}, DisableKeepAlives: true,
	}, Timeout: 20 * time.Second}
	res, err := c.Get("https://" + site + "/")
	if err != nil {
		t.Error(err)
		return ""
	}
	res.Body.Close()
	return fmt.Sprint(res.Header)
}

// checkModes checks that nobody else can read keys.
func checkModes(t *testing.T, storage string) {
	t.Helper()
	keys := 0
	err := filepath.WalkDir(storage, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %s", path, info.Mode())
		}
		if strings.HasSuffix(path, ".key") {
			keys++
		}
		return nil
	})
	if err != nil || keys < 2 {
		t.Errorf("%d keys of account and certificate, %v", keys, err)
	}
}

func TestAnAuthorityThatIsNotThere(t *testing.T) {
	ca := testca.New(t)
	a := &authority{directory: "https://" + testenv.FreeAddress(t) + "/dir", ca: ca.File}
	backend, _ := page(t, "web")
	storage := filepath.Join(t.TempDir(), "acme")
	cert, key := ca.Issue(testca.Leaf{Names: []string{"example.com"}})
	r := runAgent(t, a.certified(backend, storage, "http-01", fmt.Sprintf(", certificates: [{cert: %s, key: %s}]", cert, key)))
	if _, err := fetchTLS(ca); err != nil {
		t.Error("the certificate of a file:", err)
	}
	v := r.await("no certificate of the authority", func(v view.View) bool { return len(v.Services[0].Certificates) == 2 })
	if c := v.Services[0].Certificates[1]; c.File != "acme" || !c.NotAfter.IsZero() {
		t.Errorf("%+v", c)
	}
	if status, _ := fetchPlain(t, "/.well-known/acme-challenge/unknown"); status != http.StatusPermanentRedirect {
		t.Errorf("status %d of a challenge that nobody waits for", status)
	}
	if err := os.Chmod(storage, 0o755); err != nil {
		t.Fatal(err)
	}
	r.reload(a.certified(backend, storage, "tls-alpn-01", ""))
	v = r.await("the refusal", func(v view.View) bool { return v.ConfigError != "" })
	if want := "look at storage: " + storage + " holds keys but is open to other users: chmod 700 " + storage; v.ConfigError != want {
		t.Errorf("error %q, want %q", v.ConfigError, want)
	}
}

// fetchPlain asks the plain site, and follows no redirect.
func fetchPlain(t *testing.T, path string) (int, string) {
	t.Helper()
	client := http.Client{
		Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Get("http://" + plainSite.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode, res.Header.Get("Location")
}
