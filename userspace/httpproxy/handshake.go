package httpproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// handshakeTimeout bounds a handshake of TLS.
const handshakeTimeout = 10 * time.Second

// A guardedTLS connection lets net/http see that it is one with TLS.
type guardedTLS struct {
	*guarded
	tls *tls.Conn
}

// ConnectionState is for net/http.
func (c *guardedTLS) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// shake does the handshake of a client, and returns what it speaks through: to be
// guarded unless that is HTTP/2, which net/http takes from a [tls.Conn] only.
func (in *intake) shake(ctx context.Context, c *client) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	t := tls.Server(c, in.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		in.proxy.explain(c, err)
		return nil, err
	}
	if t.ConnectionState().NegotiatedProtocol == "h2" {
		return t, nil
	}
	return &guardedTLS{&guarded{Conn: t, proxy: in.proxy}, t}, nil
}

// explain tells a client that speaks HTTP without TLS what is wrong.
func (p *Proxy) explain(c *client, err error) {
	plain, ok := errors.AsType[tls.RecordHeaderError](err)
	if ok && plain.Conn != nil && plain.RecordHeader[0] >= 'A' && plain.RecordHeader[0] <= 'Z' {
		_ = plain.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		answer := []byte("HTTP/1.0 400 Bad Request\r\n\r\nThis is HTTPS: come with TLS.\n")
		p.unhandled(c, answer, false)
		_, _ = plain.Conn.Write(answer)
	}
}
