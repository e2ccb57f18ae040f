package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/testenv/testca"
	"fairlead/userspace/view"
)

// secureService is an HTTP service with a certificate.
func secureService(backend, more, cert, key string) string {
	return fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, tls: {certificates: [{cert: %s, key: %s}]%s}, backends: [{address: %q}], health: {type: none}}]\n",
		site, cert, key, more, backend)
}

// fetchTLS asks the site for a page over a connection of its own, and returns the
// serial number of the certificate that it showed.
func fetchTLS(ca *testca.CA, show ...tls.Certificate) (serial string, err error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), ServerName: "example.com", Certificates: show}}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Get("https://" + site + "/")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 {
		return "", fmt.Errorf("status %d: %w", res.StatusCode, err)
	}
	return res.TLS.PeerCertificates[0].SerialNumber.String(), nil
}

// shows waits until the site shows another certificate than before.
func shows(t *testing.T, ca *testca.CA, before string) (serial string) {
	t.Helper()
	await(t, "the site shows another certificate", func() (other bool) {
		var err error
		if serial, err = fetchTLS(ca); err != nil {
			t.Fatal(err)
		}
		return serial != before
	})
	return serial
}

func TestCertificatesChangeUnderLoad(t *testing.T) {
	backend, _ := page(t, "web")
	ca := testca.New(t)
	leaf := testca.Leaf{Names: []string{"example.com"}}
	leaf.Cert, leaf.Key = ca.Issue(leaf)
	r := runAgent(t, secureService(backend, "", leaf.Cert, leaf.Key))
	var asked, failed atomic.Int64
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	kept := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), ServerName: "example.com"}, ForceAttemptHTTP2: true}
	defer kept.CloseIdleConnections()
	ask := func(get func() error) {
		for ctx.Err() == nil {
			asked.Add(1)
			if err := get(); err != nil {
				failed.Add(1)
				t.Error(err)
			}
		}
	}
	running.Go(func() {
		ask(func() error { _, err := fetchTLS(ca); return err })
	})
	running.Go(func() { // over one connection of HTTP/2
		ask(func() error {
			res, err := (&http.Client{Transport: kept, Timeout: 20 * time.Second}).Get("https://" + site + "/")
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if _, err = io.Copy(io.Discard, res.Body); err == nil && res.StatusCode != 200 {
				err = fmt.Errorf("status %d", res.StatusCode)
			}
			return err
		})
	})
	serial := shows(t, ca, "")
	for i := range 20 {
		ca.Issue(leaf)
		if i%5 == 4 {
			r.reload(secureService(backend, "", leaf.Cert, leaf.Key)) // who sends SIGHUP need not wait for the watcher
		}
		serial = shows(t, ca, serial)
	}
	stop()
	running.Wait()
	if failed.Load() > 0 || asked.Load() < 40 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
}

func TestBadNewCertificates(t *testing.T) {
	backend, _ := page(t, "web")
	ca := testca.New(t)
	leaf := testca.Leaf{Names: []string{"example.com"}, Life: 24 * time.Hour}
	leaf.Cert, leaf.Key = ca.Issue(leaf)
	r := runAgent(t, secureService(backend, "", leaf.Cert, leaf.Key))
	serial := shows(t, ca, "")
	v := r.await("the certificate", func(v view.View) bool { return len(v.Services[0].Certificates) == 1 })
	c := v.Services[0].Certificates[0]
	if left := time.Until(c.NotAfter); c.File != leaf.Cert || len(c.Names) != 1 || c.Names[0] != "example.com" || c.Issuer != "test authority" || left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("%+v", c)
	}
	good, err := os.ReadFile(leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) {
		if err := os.WriteFile(leaf.Key, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("half a key")
	v = r.await("the error", func(v view.View) bool { return v.CertificateError != "" })
	if want := "service web: read key: " + leaf.Key + " holds none: it must be PEM"; v.CertificateError != want {
		t.Errorf("error %q, want %q", v.CertificateError, want)
	}
	if got, err := fetchTLS(ca); got != serial || err != nil {
		t.Errorf("with a bad file: %s, %v", got, err)
	}
	r.reload(secureService(backend, ", min-version: 1.3", leaf.Cert, leaf.Key))
	v = r.await("the refusal", func(v view.View) bool { return v.ConfigError != "" })
	if !strings.Contains(v.ConfigError, "fairlead.yaml:2:") || !strings.Contains(v.ConfigError, "services[0].tls.certificates[0]: read key") {
		t.Errorf("error %q", v.ConfigError)
	}
	put(string(good))
	r.await("no error", func(v view.View) bool { return v.CertificateError == "" })
	if got, err := fetchTLS(ca); got != serial || err != nil {
		t.Errorf("with the old file: %s, %v", got, err)
	}
	r.reload(secureService(backend, ", client-ca: "+ca.File, leaf.Cert, leaf.Key))
	r.await("the reload", func(v view.View) bool { return v.ConfigError == "" })
	if _, err := fetchTLS(ca); err == nil {
		t.Error("a client without a certificate comes in")
	}
	if _, err := fetchTLS(ca, ca.Pair("client")); err != nil {
		t.Error(err)
	}
	r.reload(fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, backends: [{address: %q}]}]\n", site, backend))
	r.await("no certificate", func(v view.View) bool { return len(v.Services[0].Certificates) == 0 })
	if status, body := fetch(t, "/x"); status != 200 || body != "web /x" {
		t.Errorf("without TLS: %d %q", status, body)
	}
}

func TestHTTPSToBackendsByTheConfiguration(t *testing.T) {
	ca, other := testca.New(t), testca.New(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, len(r.TLS.PeerCertificates))
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Pair("app")}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.StartTLS()
	t.Cleanup(s.Close)
	cert, key := ca.Issue(testca.Leaf{Names: []string{"balancer"}})
	config := func(authority string) string {
		return fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, backends: [{url: 'https://%s'}], backend-tls: {ca: %s, server-name: app, cert: %s, key: %s}, health: {type: none}}]\n",
			site, s.Listener.Addr(), authority, cert, key)
	}
	r := runAgent(t, config(ca.File))
	if status, body := fetch(t, "/"); status != 200 || body != "1" {
		t.Errorf("%d %q", status, body)
	}
	r.reload(config(other.File))
	await(t, "the other authority", func() bool { status, _ := fetch(t, "/"); return status == 502 })
	data, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other.File, data, 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "the file's new content", func() bool { status, _ := fetch(t, "/"); return status == 200 })
}

// await waits until a condition holds.
var await = testenv.Await
