package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func tokenFile(t *testing.T) string {
	name := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(name, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestRegister has the server come, with its port, and go before it ends.
func TestRegister(t *testing.T) {
	got := make(chan string, 10)
	balancer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- fmt.Sprintf("%s %s %s %s", r.Method, r.URL.Path, r.Header.Get("Authorization"), body)
		fmt.Fprint(w, `{"id": "abc"}`)
	}))
	defer balancer.Close()
	t.Run("runs", func(t *testing.T) {
		port := start(t, env(), "--port", "0", "--register", balancer.URL, "--token-file", tokenFile(t))
		want := fmt.Sprintf(`POST /register Bearer 0123456789abcdef {"address":":%d","ttl_seconds":10,"weight":1}`, port)
		if first := <-got; first != want {
			t.Errorf("got %s, want %s", first, want)
		}
		if _, body, _ := get(t, port, "/"); body == "" {
			t.Error("no answer")
		}
	})
	if last := <-got; !strings.HasPrefix(last, "DELETE /register/abc ") {
		t.Errorf("at the end %s", last)
	}
}

func TestRegisterFaults(t *testing.T) {
	refuse := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error": "a wrong token"}`)
	}))
	defer refuse.Close()
	for _, row := range []struct {
		args  []string
		want  string
		usage bool
	}{
		{[]string{"--token-file", "x"}, "wrong usage: --token-file goes with --register; try dummyserver --help", true},
		{[]string{"--register", "x"}, "wrong usage: --register needs --token-file; try dummyserver --help", true},
		{[]string{"--register", "x", "--token-file", "/does/not/exist"}, "wrong usage: read token: open /does/not/exist: no such file or directory", true},
		{[]string{"--register", refuse.URL, "--token-file", tokenFile(t)}, "registration refused: status 401: a wrong token", false},
	} {
		err := newApp(io.Discard, io.Discard, env()).RunContext(t.Context(), append([]string{"dummyserver", "--port", "0"}, row.args...))
		if err == nil || err.Error() != row.want || errors.Is(err, errUsage) != row.usage {
			t.Errorf("%q: %v", row.args, err)
		}
	}
}
