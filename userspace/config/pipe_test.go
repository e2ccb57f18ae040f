package config

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNobodyWaitsForAPipe: a change may name one, and there may be nobody who writes.
func TestNobodyWaitsForAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	const kind = "it is no regular file: name one"
	page := "services: [{name: web, listen: '203.0.113.10:80', forward: http, backends: [{address: '10.0.0.1:80'}], error-pages: [{status: 503, file: %}]}]\n"
	secure := "services: [{name: web, listen: '203.0.113.10:443', forward: http, tls: {certificates: [{cert: %, key: %}]}, backends: [{address: '10.0.0.1:80'}]}]\n"
	for _, row := range []struct{ name, text, want string }{
		{"a value", "services: [{name: 'file:%', listen: '203.0.113.10:80', backends: [{address: '10.0.0.1:80'}]}]\n", "f:1:19: services[0].name: cannot be read: open %: " + kind},
		{"an included file", "include: %\nservices: []\n", "f:1:10: include: cannot be read: open %: " + kind},
		{"a page", page, "is no regular file: name one"},
		{"a certificate", secure, "read certificate: open %: " + kind},
		{"a token", "vault: {address: 'http://127.0.0.1:1', token-file: %}\nservices: []\n", "f:1:52: vault.token-file: is no regular file: name one"},
	} {
		t.Run(row.name, func(t *testing.T) {
			said := make(chan error, 1)
			go func() {
				_, err := NewTree("f", []byte(strings.ReplaceAll(row.text, "%", pipe))).State(true)
				said <- err
			}()
			want := strings.ReplaceAll(row.want, "%", pipe)
			select {
			case err := <-said:
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v\nwant  %s", err, want)
				}
			case <-time.After(20 * time.Second):
				t.Error("it waits")
			}
		})
	}
}
