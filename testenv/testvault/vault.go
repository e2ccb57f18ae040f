package testvault

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A Vault is the real thing in a process of its own, with one KV store, version 2,
// mounted at secret, in memory. TokenFile has the token that may do all.
type Vault struct {
	URL, TokenFile string

	t     testing.TB
	token string
}

// OnAny runs a test with a fake, and with Vault itself in the long form.
func OnAny(t *testing.T, f func(t *testing.T, url, tokenFile string)) {
	t.Run("fake", func(t *testing.T) {
		s := New(t)
		f(t, s.URL, s.TokenFile)
	})
	t.Run("vault", func(t *testing.T) {
		v := Start(t)
		f(t, v.URL, v.TokenFile)
	})
}

// Start builds Vault, which takes minutes the first time, and returns one without
// secrets that ends with the test; without FAIRLEAD_SLOW=1 the test is skipped. Its
// package is two directories down.
func Start(t testing.TB) *Vault {
	t.Helper()
	if os.Getenv("FAIRLEAD_SLOW") == "" {
		t.Skip("Vault takes minutes to build (FAIRLEAD_SLOW=1)")
	}
	path, err := exec.Command("../../scripts/vault-fetch.sh").Output()
	if err != nil {
		t.Fatal("build vault:", err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	cmd := exec.Command(strings.TrimSpace(string(path)))
	cmd.Stderr = log
	end, err := cmd.StdinPipe() // it ends with this, or with the test's process
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end.Close()
		if err := cmd.Wait(); err != nil || t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("vault: %v\n%s", err, text)
		}
	})
	var said struct{ Address, Token string }
	if err := json.NewDecoder(out).Decode(&said); err != nil {
		t.Fatal("await vault:", err)
	}
	v := &Vault{URL: said.Address, t: t, token: said.Token}
	v.TokenFile = v.keep(said.Token)
	return v
}

// keep returns a file with a token.
func (v *Vault) keep(token string) (file string) {
	v.t.Helper()
	file = filepath.Join(v.t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		v.t.Fatal(err)
	}
	return file
}

// Ask sends a request with the token that may do all, and returns what is answered.
func (v *Vault) Ask(method, path, body string) (status int, answer []byte) {
	v.t.Helper()
	return ask(v.t, v.URL, v.token, method, path, body)
}

// Allow returns a file with a token that may do what a policy allows, and no more.
func (v *Vault) Allow(policy string) (file string) {
	v.t.Helper()
	v.must("/v1/sys/policies/acl/test", map[string]any{"policy": policy})
	var made struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	data := v.must("/v1/auth/token/create", map[string]any{"policies": []string{"test"}, "no_default_policy": true})
	if err := json.Unmarshal(data, &made); err != nil {
		v.t.Fatal(err)
	}
	return v.keep(made.Auth.Token)
}

// must sends a request that has to work.
func (v *Vault) must(path string, body any) (answer []byte) {
	v.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		v.t.Fatal(err)
	}
	status, answer := v.Ask(http.MethodPost, path, string(data))
	if status >= 300 {
		v.t.Fatalf("%s: status %d: %s", path, status, answer)
	}
	return answer
}

// ask sends a request to a server.
func ask(t testing.TB, url, token, method, path, body string) (status int, answer []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", token)
	r.Close = true
	client := http.Client{Timeout: 30 * time.Second}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, err = io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, answer
}
