package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"slices"
	"sync/atomic"

	"fairlead/userspace/peercred"
)

// A Role is what somebody may do.
type Role int

// The roles. Who may write may read.
const (
	RoleNone Role = iota
	RoleRead
	RoleWrite
)

// An Access says who has which role, beside root and the process's own user, who
// may write.
type Access struct{ Write, Read Callers }

// Callers are some of those who may call.
type Callers struct {
	// Allowed are on this host.
	peercred.Allowed
	// Certificates are subjects, as [crypto/x509/pkix.Name.String] has them, or
	// alternative names (DNS, URI, e-mail) of verified certificates.
	Certificates []string
}

// A caller is at the other end of a connection. The zero value is nobody.
type caller struct {
	peer  *peercred.Peer
	cert  *x509.Certificate
	chain *chain // by which the certificate is verified
}

// String names the caller for the history.
func (c caller) String() string {
	switch {
	case c.peer != nil:
		return c.peer.String()
	case c.cert != nil:
		if names := namesOf(c.cert); len(names) > 0 {
			return "certificate " + names[0]
		}
		return "certificate without names"
	}
	return "nobody"
}

// role returns what a caller may do.
func (a *Access) role(c caller) Role {
	if a == nil {
		a = &Access{}
	}
	switch {
	case c.peer != nil && (c.peer.UID == 0 || int(c.peer.UID) == os.Geteuid()), a.Write.have(c):
		return RoleWrite
	case a.Read.have(c):
		return RoleRead
	}
	return RoleNone
}

// have reports whether a caller is one of some.
func (who *Callers) have(c caller) bool {
	switch {
	case c.peer != nil:
		return who.Allows(*c.peer)
	case c.cert != nil:
		return slices.ContainsFunc(namesOf(c.cert), func(name string) bool { return slices.Contains(who.Certificates, name) })
	}
	return false
}

// namesOf returns what a certificate is called.
func namesOf(c *x509.Certificate) []string {
	names := slices.Concat([]string{c.Subject.String()}, c.DNSNames, c.EmailAddresses)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

type (
	peerKey    struct{}
	verdictKey struct{}
)

// withCaller notes whose connection it is, where the kernel knows it, else where to keep
// how its certificate was judged.
func withCaller(ctx context.Context, c net.Conn) context.Context {
	if u, ok := c.(*net.UnixConn); ok {
		if p, err := peercred.Of(u); err == nil {
			return context.WithValue(ctx, peerKey{}, &p)
		}
		return ctx
	}
	return context.WithValue(ctx, verdictKey{}, new(atomic.Pointer[verdict]))
}

// callerOf returns who has sent a request.
func callerOf(ctx context.Context, state *tls.ConnectionState) (c caller) {
	if state != nil {
		if len(state.VerifiedChains) > 0 {
			c.cert = state.PeerCertificates[0]
			c.chain = &chain{state.PeerCertificates, ctx.Value(verdictKey{}).(*atomic.Pointer[verdict])}
		}
		return c
	}
	c.peer, _ = ctx.Value(peerKey{}).(*peercred.Peer)
	return c
}
