package vault

import (
	"context"
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

	"fairlead/testenv/leak"
	"fairlead/testenv/testca"
	"fairlead/userspace/model"
)

// certificate is what secrets with one have.
var certificate = []string{"cert", "key"}

func TestMain(m *testing.M) { leak.Each(m).Run() }

// A fake is a server of which the token is good, and a Store of it.
type fake struct {
	*Store
	conf   *model.Vault
	answer atomic.Pointer[http.HandlerFunc]
	asked  atomic.Pointer[http.Request]
}

// good is an answer with a secret.
const good = `{"data": {"data": {"cert": "C%s", "key": "K", "other": 1}, "metadata": {"version": 3}}}`

func (f *fake) says(status int, body string) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
	f.answer.Store(&h)
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Store(r)
		if r.Header.Get("X-Vault-Token") != "letmein" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		(*f.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("letmein\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.conf = &model.Vault{Address: s.URL, TokenFile: token, Namespace: "team/a", Refresh: 10 * time.Millisecond}
	f.open(t)
	return f
}

func (f *fake) open(t *testing.T) {
	t.Helper()
	var err error
	if f.Store, err = Open(f.conf); err != nil {
		t.Fatal(err)
	}
}

func TestASecretIsRead(t *testing.T) {
	f := newFake(t)
	f.says(200, fmt.Sprintf(good, ""))
	if err := f.Read(Fields{"secret/tls/a b": certificate}); err != nil {
		t.Fatal(err)
	}
	chain, key, err := f.Secret("secret/tls/a b")
	if string(chain) != "C" || string(key) != "K" || err != nil {
		t.Errorf("%q, %q, %v", chain, key, err)
	}
	r := f.asked.Load()
	if r.Method != "GET" || r.RequestURI != "/v1/secret/data/tls/a%20b" || r.Header.Get("X-Vault-Namespace") != "team/a" || r.Header.Get("X-Vault-Request") != "true" {
		t.Errorf("%s %s %v", r.Method, r.RequestURI, r.Header)
	}
}

func TestWhatIsWrongIsSaidWithoutSecrets(t *testing.T) {
	const path = "secret/tls/site"
	for _, row := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"not allowed", 403, "", "not allowed: the token is not good, or no policy lets it read secret/data/tls/site"},
		{"not there", 404, `{"errors": []}`, "there is no such secret"},
		{"sealed", 503, `{"errors": ["Vault is sealed"]}`, "the server is sealed, or not ready"},
		{"another status", 500, "letmein", "status 500"},
		{"no JSON", 200, "letmein", "the answer is not that of a KV store, version 2"},
		{"version 1 of the store", 200, `{"data": {"cert": "C", "key": "K"}}`, "the secret has no"},
		{"no key", 200, `{"data": {"data": {"cert": "C"}}}`, "the secret has no key: put PEM there"},
		{"a key that is no text", 200, `{"data": {"data": {"cert": "C", "key": 1}}}`, "the secret has no key: put PEM there"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := newFake(t)
			f.says(row.status, row.body)
			err := f.Read(Fields{path: certificate})
			if err == nil || !strings.HasPrefix(err.Error(), "read secret/tls/site of vault: "+row.want) || strings.Contains(err.Error(), "letmein") {
				t.Errorf("error %v, want %s", err, row.want)
			}
			if _, _, again := f.Secret(path); again == nil || again.Error() != err.Error() {
				t.Errorf("the secret itself has the error %v", again)
			}
		})
	}
}

func TestTheTokenGoesNowhereElse(t *testing.T) {
	var other atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { other.Add(1) }))
	t.Cleanup(elsewhere.Close)
	f := newFake(t)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	f.answer.Store(&h)
	if err := f.Read(Fields{"secret/a": certificate}); !errors.Is(err, errElsewhere) || other.Load() != 0 {
		t.Errorf("error %v, asked %d times elsewhere", err, other.Load())
	}
}

func TestTokens(t *testing.T) {
	f := newFake(t)
	f.says(200, fmt.Sprintf(good, ""))
	f.conf.TokenFile = ""
	f.open(t)
	t.Setenv("VAULT_TOKEN", "")
	if err := f.Read(Fields{"secret/a": certificate}); !errors.Is(err, errNoToken) {
		t.Errorf("without a token: %v", err)
	}
	t.Setenv("VAULT_TOKEN", "letmein")
	if err := f.Read(Fields{"secret/a": certificate}); err != nil {
		t.Errorf("with the token of the environment: %v", err)
	}
	f.conf.TokenFile = filepath.Join(t.TempDir(), "none")
	f.open(t)
	if err := f.Read(Fields{"secret/a": certificate}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the token's file: %v", err)
	}
}

func TestTheServerMustShowWhoItIs(t *testing.T) {
	ca := testca.New(t)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, good, "") }))
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	t.Setenv("VAULT_TOKEN", "letmein")
	store, err := Open(&model.Vault{Address: s.URL, CA: ca.File})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Read(Fields{"secret/a": certificate}); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("a foreign server: %v", err)
	}
	if _, err := Open(&model.Vault{CA: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("authorities that are missing: %v", err)
	}
}

func TestChangesAreTold(t *testing.T) {
	f := newFake(t)
	f.says(200, fmt.Sprintf(good, "1"))
	if err := f.Read(Fields{"secret/a": certificate}); err != nil {
		t.Fatal(err)
	}
	changes := make(chan string)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Run(ctx, func() {
			chain, _, err := f.Secret("secret/a")
			select {
			case changes <- fmt.Sprint(string(chain), " ", err != nil):
			case <-ctx.Done():
			}
		})
	}()
	for _, step := range []struct {
		status int
		body   string
		want   string
	}{
		{200, fmt.Sprintf(good, "2"), "C2 false"},
		{503, "", "C2 true"}, // the old one stays
		{200, fmt.Sprintf(good, "2"), "C2 false"},
		{200, fmt.Sprintf(good, "3"), "C3 false"},
	} {
		f.says(step.status, step.body)
		select {
		case got := <-changes:
			if got != step.want {
				t.Errorf("%s, want %s", got, step.want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing is told of %s", step.want)
		}
	}
	stop()
	<-ended
}
