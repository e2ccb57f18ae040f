package client_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fairlead/client"
	"fairlead/testenv/leak"
	"fairlead/userspace/admin/adminpb"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

func TestTargetsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.pem")
	if err := os.WriteFile(garbage, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	pair := client.TLS{Cert: "../userspace/config/testdata/site.pem", Key: "../userspace/config/testdata/site.key", CA: garbage}
	for _, row := range []struct {
		target string
		tls    client.TLS
		want   error
		says   string
	}{
		{"10.0.0.1:9443", client.TLS{}, client.ErrPlain, "TLS only"},
		{"10.0.0.1:9443", client.TLS{Cert: "a", Key: "b"}, client.ErrPlain, "TLS only"},
		{"10.0.0.1", client.TLS{}, client.ErrTarget, "host:port"},
		{":9443", client.TLS{}, client.ErrTarget, "host:port"},
		{"", client.TLS{}, client.ErrTarget, "host:port"},
		{"a:1", client.TLS{Cert: "none.pem", Key: "none.key", CA: "none.pem"}, fs.ErrNotExist, "read certificate"},
		{"a:1", pair, nil, "holds no certificate"},
	} {
		c, err := client.New(row.target, row.tls)
		if err == nil {
			c.Close()
			t.Errorf("%q: no error", row.target)
			continue
		}
		if row.want != nil && !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%q: %v, want %q", row.target, err, row.says)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	c, err := client.New(filepath.Join(t.TempDir(), "none.sock"), client.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.GetStatus(t.Context(), &adminpb.GetStatusRequest{}); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("%v, want that nobody is there", err)
	}
}

func TestAwaitSaysWhatItWaitedFor(t *testing.T) {
	a := startAgent(t)
	a.set("10.0.0.1:80", backend{weight: 1, flows: 3, fails: "connection refused"})
	c, err := client.New(a.socket, client.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	for _, row := range []struct {
		wait func(ctx context.Context, pool, backend string) error
		want string
	}{
		{c.AwaitIdle, "wait until backend http://10.0.0.1:80/x of pool web has no flows: context deadline exceeded (unhealthy, 3 flows"},
		{c.AwaitHealthy, "is healthy"},
	} {
		if err := row.wait(ctx, "web", "http://10.0.0.1:80/x"); err == nil {
			t.Error("no error")
		} else if connect.CodeOf(err) != connect.CodeDeadlineExceeded && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%v, want %q", err, row.want)
		}
	}
	if err := c.AwaitIdle(t.Context(), "none", "10.0.0.1:80"); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("%v, want that there is no such pool", err)
	}
}
