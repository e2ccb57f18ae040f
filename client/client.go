// Package client asks and changes a running agent of Fairlead.
//
// A [Client] has the calls of the admin API, which adminpb/admin.proto and
// docs/api.md describe, and a few that wait for what calls bring about. Errors of
// calls have a code, which [connectrpc.com/connect.CodeOf] returns: Aborted where
// another revision than the expected one is in force, FailedPrecondition where a
// backend fails its check, InvalidArgument with a line for each fault, NotFound,
// AlreadyExists, PermissionDenied, Unavailable.
package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/admin/adminpb/adminpbconnect"
)

// Errors of [New].
var (
	// ErrPlain says that TCP was to be spoken without TLS.
	ErrPlain = errors.New("TCP is spoken with TLS only: give host:port, a certificate, its key, and the authority of the agent's certificate")
	// ErrTarget says that a target is neither a path nor a host and port.
	ErrTarget = errors.New("neither the path of a socket nor host:port")
)

// A Client speaks to one agent. It is safe for concurrent use.
type Client struct {
	adminpbconnect.AdminClient
	transport *http.Transport
}

// TLS says how TCP is spoken, by files of PEM: who this is, and the authorities of
// the agent's certificate.
type TLS struct{ Cert, Key, CA string }

// New returns a client of an agent: target is the path of its socket, such as
// /run/fairlead/admin.sock, or host:port. Nothing is connected to yet. The caller
// closes it. TLS is for host:port only.
func New(target string, t TLS) (*Client, error) {
	switch scheme, _, given := strings.Cut(target, "://"); {
	case given && scheme == "http":
		return nil, fmt.Errorf("reach agent at %s: %w", target, ErrPlain)
	case given:
		return nil, fmt.Errorf("reach agent at %q: %w", target, ErrTarget)
	case strings.Contains(target, "/"):
		return onSocket(target), nil
	}
	if host, port, err := net.SplitHostPort(target); err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("reach agent at %q: %w", target, ErrTarget)
	}
	conf, err := t.config()
	if err != nil {
		return nil, fmt.Errorf("reach agent at %s: %w", target, err)
	}
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	return of(tr, "https://"+target), nil
}

func onSocket(path string) *Client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return of(&http.Transport{Protocols: &protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}, "http://fairlead")
}

func of(tr *http.Transport, base string) *Client {
	return &Client{adminpbconnect.NewAdminClient(&http.Client{Transport: tr}, base), tr}
}

// config returns the files' contents.
func (t TLS) config() (*tls.Config, error) {
	if t.Cert == "" || t.Key == "" || t.CA == "" {
		return nil, ErrPlain
	}
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	data, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read authorities: %s holds no certificate: it must be PEM", t.CA)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: pool}, nil
}

// Close ends the connections. Calls that run go on.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// lookAgain is how often an Await call asks.
const lookAgain = 200 * time.Millisecond

// AwaitHealthy waits until a backend of a pool is healthy: of one that goes by a name
// all its addresses. Without a check it never is. The error is the context's, with what
// the last probe said.
func (c *Client) AwaitHealthy(ctx context.Context, pool, backend string) error {
	return c.await(ctx, pool, backend, "is healthy", func(all []*adminpb.Backend) *adminpb.Backend {
		if len(all) == 0 {
			return &adminpb.Backend{Status: "not there"}
		}
		return first(all, func(b *adminpb.Backend) bool { return b.GetStatus() != "healthy" })
	})
}

// AwaitIdle waits until a backend of a pool has no flows, of one that goes by a name at
// any of its addresses, or is no more. Drain it before.
func (c *Client) AwaitIdle(ctx context.Context, pool, backend string) error {
	return c.await(ctx, pool, backend, "has no flows", func(all []*adminpb.Backend) *adminpb.Backend {
		return first(all, func(b *adminpb.Backend) bool { return b.GetFlows() > 0 })
	})
}

// first returns the first of backends that is so, nil if none is.
func first(all []*adminpb.Backend, is func(*adminpb.Backend) bool) *adminpb.Backend {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i]
	}
	return nil
}

// await asks until none of the addresses of a backend is in the way.
func (c *Client) await(ctx context.Context, pool, backend, what string, inTheWay func([]*adminpb.Backend) *adminpb.Backend) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		health, err := c.GetHealth(ctx, &adminpb.GetHealthRequest{Pool: pool})
		if err != nil {
			return err
		}
		b := inTheWay(find(health, backend))
		if b == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until backend %s of pool %s %s: %w (%s, %d flows, last error %q)",
				backend, pool, what, context.Cause(ctx), b.GetStatus(), b.GetFlows(), b.GetLastError())
		case <-tick.C:
		}
	}
}

// find returns the addresses of a backend, which is as the configuration has it:
// host:port, a host alone, a URL, or the name of SRV records, which have the ports.
func find(health *adminpb.GetHealthResponse, backend string) (all []*adminpb.Backend) {
	host, port := place(backend)
	for _, p := range health.GetPools() {
		for _, b := range p.GetBackends() {
			h, at := place(b.GetAddress())
			named := strings.EqualFold(b.GetName(), host)
			if at == port && (h == host || named) || named && strings.HasPrefix(host, "_") {
				all = append(all, b)
			}
		}
	}
	return all
}

// place returns the host and the port of a backend; * is the port that clients ask for.
func place(backend string) (host, port string) {
	if u, err := url.Parse(backend); err == nil && u.Host != "" {
		scheme := map[string]string{"http": "80", "https": "443"}
		backend = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), scheme[u.Scheme], "*"))
	}
	host, port, err := net.SplitHostPort(backend)
	if err != nil {
		host, port = strings.Trim(backend, "[]"), "*"
	}
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String() // written in one way
	}
	return strings.TrimSuffix(host, "."), port
}
