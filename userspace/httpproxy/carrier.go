package httpproxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/userspace/model"
)

// lostAfter is how long a connection of HTTP/2 may have what the backend's host does
// not acknowledge: all requests share it, and would run into their time-outs one after
// the other. Pings of HTTP/2 would say the same, but servers of gRPC close connections
// on which they come more often than once in five minutes.
const lostAfter = 5 * time.Second

// How long a connection without a request may be used again. Many servers close one
// after five seconds, and a request that is on its way then may be lost; those of
// HTTP/2 say before that they will.
const (
	usualKeep  = 4 * time.Second
	sharedKeep = 90 * time.Second
)

// handshakeTime bounds a handshake of TLS that nobody waits for any more.
const handshakeTime = time.Minute

// carriers hold the connections to a pool's backends.
type carriers struct {
	usual *http.Transport
	// upgrade carries requests that ask for another protocol, which HTTP/2 does
	// not have.
	upgrade *http.Transport
}

// newCarriers returns those of a pool, which speak TLS as secure says, which may be nil.
// first, which may be nil, returns what a connection begins with that is for the
// requests of one client alone.
func newCarriers(conf *model.Pool, secure *tls.Config, first func(client, server netip.AddrPort) []byte) *carriers {
	c := &carriers{usual: newTransport(conf.HTTP2, conf.KeepAlive, secure)}
	if first != nil {
		c.usual.DialContext = announce(first)
		c.usual.DisableKeepAlives = true // nor does a request get a connection that was made for another one
	}
	c.upgrade = c.usual
	if conf.HTTP2 {
		c.upgrade = newTransport(false, conf.KeepAlive, secure)
	}
	return c
}

// announce returns a dial that tells the backend first whom the connection is of.
func announce(first func(client, server netip.AddrPort) []byte) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		x := exchangeOf(ctx)
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if _, err := c.Write(first(x.peer, x.local)); err != nil { // it is too short to wait
			c.Close()
			return nil, err
		}
		return c, nil
	}
}

// newTransport returns one that changes nothing of what it carries. A keep of 0 is the
// usual one.
func newTransport(http2 bool, keep time.Duration, secure *tls.Config) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	protocols.SetUnencryptedHTTP2(http2)
	connect, usual := dial, usualKeep
	var connectTLS func(ctx context.Context, network, addr string) (net.Conn, error)
	if http2 {
		connect, usual, connectTLS = dialFrames, sharedKeep, dialSecureFrames(secure.Clone())
	}
	return &http.Transport{
		DialContext: connect, DialTLSContext: connectTLS,
		TLSHandshakeTimeout: handshakeTime,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 256, IdleConnTimeout: cmp.Or(keep, usual),
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		Protocols:              &protocols,
		TLSClientConfig:        secure.Clone(),
	}
}

// dial connects to a backend. A transport goes on with it when the request that
// wanted it has given up, so it must be bounded by itself.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return dialWith(ctx, &net.Dialer{KeepAlive: 15 * time.Second}, network, addr)
}

// dialShared is dial for a connection that many requests share. It breaks soon after
// the backend's host is out of reach, in use or not.
func dialShared(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: lostAfter, Interval: lostAfter}}
	d.Control = func(_, _ string, raw syscall.RawConn) error {
		var err error
		if failed := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(lostAfter.Milliseconds()))
		}); failed != nil {
			return failed
		}
		return err
	}
	return dialWith(ctx, d, network, addr)
}

func dialWith(ctx context.Context, d *net.Dialer, network, addr string) (net.Conn, error) {
	d.Timeout = exchangeOf(ctx).timeouts.Connect
	c, err := d.DialContext(ctx, network, addr)
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
		return nil, errConnectLate
	}
	if err != nil {
		return nil, err
	}
	return &line{TCPConn: c.(*net.TCPConn)}, nil
}

// of returns what carries a request.
func (c *carriers) of(r *http.Request) *http.Transport {
	if r.Header.Get("Upgrade") != "" {
		return c.upgrade
	}
	return c.usual
}

func (c *carriers) close() {
	c.usual.CloseIdleConnections()
	c.upgrade.CloseIdleConnections()
}

// address returns where a request for a path goes, nil if it cannot be written
// so.
func (b *backend) address(path string, query *url.URL) *url.URL {
	u := &url.URL{Scheme: "http", Host: b.host, RawQuery: query.RawQuery, ForceQuery: query.ForceQuery}
	if b.Origin.TLS {
		u.Scheme = "https"
	}
	if !locate(u, b.Origin.Prefix+path) {
		return nil
	}
	return u
}
