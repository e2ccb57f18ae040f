package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/testenv/testca"
	"fairlead/testenv/testvault"
	"fairlead/userspace/control"
	"fairlead/userspace/model"
	"fairlead/userspace/state"
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

// atVault is a configuration with the server of a fake.
func atVault(s *testvault.Server, rest string) string {
	return fmt.Sprintf("vault: {address: %q, token-file: %s, refresh: 1s}\n", s.URL, s.TokenFile) + rest
}

func TestAStateInVaultSurvivesAndRefusesWhatCannotBeKept(t *testing.T) {
	a, _ := page(t, "a")
	b, _ := page(t, "b")
	server := testvault.New(t)
	c := &controlled{}
	c.running = runAgentWith(t, atVault(server, oneSite(a)), func(o *Options) {
		o.StateDir = "vault:secret/fairlead"
		o.ready = func(p control.Plane) { c.Plane = p }
	})
	if n := c.must(about(control.OpAddBackend, "main", b), setWeight("main", a, 0)); n != 2 {
		t.Errorf("revision %d, want 2", n)
	}
	before := c.exported()
	c.restart()
	if after := c.exported(); after != before || c.Revision().Number != 2 {
		t.Errorf("revision %d exports\n%s\nwant\n%s", c.Revision().Number, after, before)
	}
	change := control.Request{Who: "test", Edits: []control.Edit{setWeight("main", a, 5)}}
	server.Fail(func(_, _ string) testvault.Fate { return testvault.Cut })
	if _, err := c.Change(t.Context(), change); err == nil || !strings.Contains(err.Error(), "keep state: ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("without the server: %v", err)
	}
	c.served(a+"=0", b+"=1")
	if after := c.exported(); after != before || c.Revision().Number != 2 {
		t.Errorf("the refused change is there: revision %d\n%s", c.Revision().Number, after)
	}
	if _, body := fetch(t, "/x"); body != "b /x" {
		t.Errorf("answer %q", body)
	}
	opts := c.opts
	opts.RunDir = t.TempDir()
	if err := Run(t.Context(), opts); err == nil || !strings.HasPrefix(err.Error(), "open state: read secret/fairlead/head of vault: ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a start without the server: %v", err)
	}
	server.Fail(nil)
	if n := c.must(change.Edits...); n != 3 {
		t.Errorf("revision %d, want 3", n)
	}
	s, err := openStore(t.Context(), c.opts.StateDir, &model.Vault{Address: server.URL, TokenFile: server.TokenFile}, c.opts.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := c.Change(t.Context(), control.Request{Who: "test", Edits: []control.Edit{setWeight("main", b, 5)}}); !errors.Is(err, state.ErrInUse) {
		t.Errorf("with another agent: %v", err)
	}
	c.served(a+"=5", b+"=1")
	opts.Config = filepath.Join(t.TempDir(), "fairlead.yaml")
	if err := os.WriteFile(opts.Config, []byte("xdp: off\n"+oneSite(a)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), opts); !errors.Is(err, errNoVault) {
		t.Errorf("a start that knows no server: %v", err)
	}
}

func TestTokensOfVault(t *testing.T) {
	a, _ := page(t, "a")
	server := testvault.New(t)
	server.Set("web", map[string]string{"token": secret})
	config := atVault(server, oneSite()+"registration: {listen: "+registerAt+", tokens: [{vault: secret/web, pool: main}]}\n")
	c := controlAgent(t, config)
	if status := registerOnce(t, secret, a, 60); status != http.StatusCreated {
		t.Fatalf("status %d", status)
	}
	if status := registerOnce(t, "", a, 60); status != http.StatusUnauthorized {
		t.Errorf("without a token: status %d", status)
	}
	const second = "fedcba9876543210"
	taken := func(token string) {
		t.Helper()
		server.Set("web", map[string]string{"token": token})
		for end := time.Now().Add(20 * time.Second); registerOnce(t, token, a, 60) != http.StatusOK; time.Sleep(2 * time.Second) { // fewer wrong ones than are too many
			if time.Now().After(end) {
				t.Fatalf("the token is not taken")
			}
		}
	}
	taken(second)
	if status := registerOnce(t, secret, a, 60); status != http.StatusUnauthorized {
		t.Errorf("with the old token: status %d", status)
	}
	server.Set("web", map[string]string{"token": "short"})
	before, _ := server.Requests()
	testenv.Await(t, "the token to be read", func() bool {
		n, _ := server.Requests()
		return n >= before+3
	})
	if status := registerOnce(t, second, a, 60); status != http.StatusOK {
		t.Errorf("with the token that stays: status %d", status)
	}
	c.reload(config + "# again\n")
	v := c.await("the refusal", func(v view.View) bool { return v.ConfigError != "" })
	if want := "registration: the token of secret/web in vault is easily guessed: use at least 16 characters, such as those of openssl rand -hex 32"; v.ConfigError != want {
		t.Errorf("error %q", v.ConfigError)
	}
	taken(secret)
	c.reload(config)
	c.await("the configuration", func(v view.View) bool { return v.ConfigError == "" })
}

// A hush has requests of a server wait.
type hush struct{ asked, left, over chan bool }

// TestVaultIsWaitedForBesideTheLoop has the server be silent while the configuration is
// read again, and changed: the agent goes on with all else meanwhile.
func TestVaultIsWaitedForBesideTheLoop(t *testing.T) {
	a, _ := page(t, "a")
	server := testvault.New(t)
	server.Set("web", map[string]string{"token": secret})
	var silent atomic.Pointer[hush]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := silent.Load(); h != nil {
			close(h.asked)
			select {
			case <-h.over:
			case <-r.Context().Done():
				close(h.left)
				return
			}
		}
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	config := func(networks string) string {
		return fmt.Sprintf("vault: {address: %q, token-file: %s, refresh: 1h}\n", front.URL, server.TokenFile) +
			oneSite(a) + "registration: {listen: " + registerAt + ", tokens: [{vault: secret/web, pool: main, networks: [" + networks + "]}]}\n"
	}
	c := controlAgent(t, config("127.0.0.0/8"))
	agent := c.Plane.(*plane).agent
	reload := func(config string) error {
		c.reload(config)
		return nil
	}
	apply := func(config string) error {
		_, err := c.Change(t.Context(), control.Request{Who: "test", Edits: []control.Edit{{Op: control.OpApply, Spec: "xdp: off\n" + config}}})
		return err
	}
	for i, begin := range []func(config string) error{reload, apply} {
		networks := []string{"127.0.0.0/9", "127.0.0.0/10"}[i]
		h := &hush{make(chan bool), make(chan bool), make(chan bool)}
		silent.Store(h)
		begun, turn := make(chan error, 1), make(chan error, 1)
		go func() { begun <- begin(config(networks)) }()
		<-h.asked
		go func() { turn <- agent.do(t.Context(), func() error { return nil }) }()
		select {
		case err := <-turn:
			if err != nil {
				t.Error(err)
			}
		case <-h.left: // it had 3 s
			t.Errorf("%s: the loop waits for the server", networks)
		}
		silent.Store(nil)
		close(h.over)
		if err := <-begun; err != nil {
			t.Errorf("%s: %v", networks, err)
		}
		await(t, networks+" in force", func() bool {
			r := agent.given.Load().Registration
			return r.Tokens[0].Networks[0].String() == networks
		})
	}
}
