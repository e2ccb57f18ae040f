package daemon

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"fairlead/testenv/testca"
	"fairlead/userspace/view"
)

func TestCertificatesOfVault(t *testing.T) {
	backend, _ := page(t, "web")
	ca := testca.New(t)
	leaf := testca.Leaf{Names: []string{"example.com"}}
	leaf.Cert, leaf.Key = ca.Issue(leaf)
	var down atomic.Bool
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cert, certErr := os.ReadFile(leaf.Cert)
		key, keyErr := os.ReadFile(leaf.Key)
		if down.Load() || certErr != nil || keyErr != nil || r.URL.Path != "/v1/secret/data/site" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		data := map[string]any{"data": map[string]any{"data": map[string]string{"cert": string(cert), "key": string(key)}}}
		if err := json.NewEncoder(w).Encode(data); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(vault.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := func(secret string) string {
		return fmt.Sprintf("vault: {address: %q, token-file: %s, refresh: 1s}\n", vault.URL, token) +
			fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, tls: {certificates: [{vault: %s}]}, backends: [{address: %q}], health: {type: none}}]\n", site, secret, backend)
	}
	r := runAgent(t, config("secret/site"))
	serial := shows(t, ca, "")
	ca.Issue(leaf)
	serial = shows(t, ca, serial)
	v := r.await("its name", func(v view.View) bool { return len(v.Services[0].Certificates) == 1 })
	if c := v.Services[0].Certificates[0]; c.File != "secret/site" {
		t.Errorf("%+v", c)
	}
	down.Store(true)
	v = r.await("the error", func(v view.View) bool { return v.CertificateError != "" })
	if want := "service web: read secret/site of vault: the server is sealed, or not ready"; v.CertificateError != want {
		t.Errorf("error %q, want %q", v.CertificateError, want)
	}
	r.reload(config("secret/other"))
	v = r.await("the refusal", func(v view.View) bool { return v.ConfigError != "" })
	if !strings.HasPrefix(v.ConfigError, "read secret/other of vault: ") {
		t.Errorf("error %q", v.ConfigError)
	}
	if got, err := fetchTLS(ca); got != serial || err != nil {
		t.Errorf("without the server: %s, %v", got, err)
	}
	down.Store(false)
	r.await("no error", func(v view.View) bool { return v.CertificateError == "" })
	ca.Issue(leaf)
	shows(t, ca, serial)
}
