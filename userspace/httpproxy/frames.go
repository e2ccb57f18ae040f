package httpproxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
)

// mostUntaken is how often a backend is sent a request again that it has not taken.
const mostUntaken = 6

// untaken is the GetBody of requests of HTTP/2: net/http asks for the body again when the
// backend has surely done nothing with the request (RFC 9113, section 8.7), and also when
// it has said that the request is wrong, which may come after it was obeyed. The attempt
// sends it again itself, or another one does.
func (a *attempt) untaken() (io.ReadCloser, error) {
	if a.frames == nil || a.frames.malformed.Load() {
		return nil, errMalformed
	}
	return nil, errUntaken
}

// What frames of HTTP/2 begin with, and what one that resets a stream consists of
// (RFC 9113, sections 4.1, 6.4 and 7).
const (
	frameHeader   = 9
	resetFrame    = frameHeader + 4
	typeReset     = 3
	protocolError = 1
)

// frames is a connection of HTTP/2 to a backend, and looks at what comes from there:
// net/http does not tell why a stream was reset.
type frames struct {
	net.Conn
	// malformed says that the backend has called a request wrong; a transport sends no
	// further one on the connection.
	malformed atomic.Bool

	frame [resetFrame]byte // of the one that comes: the beginning
	have  int              // of that
	skip  uint32           // bytes until the next one
}

// Read waits for the backend. Only one may call it at a time.
func (f *frames) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	f.look(p[:n])
	return n, err
}

func (f *frames) look(p []byte) {
	for len(p) > 0 {
		if f.skip > 0 {
			n := min(int(f.skip), len(p))
			f.skip -= uint32(n)
			p = p[n:]
			continue
		}
		want := frameHeader
		if f.have >= frameHeader {
			want = resetFrame
		}
		n := copy(f.frame[f.have:want], p)
		f.have += n
		p = p[n:]
		if f.have == frameHeader || f.have == resetFrame {
			f.judge()
		}
	}
}

// judge looks at a header that is whole, or a frame that resets.
func (f *frames) judge() {
	length := binary.BigEndian.Uint32(f.frame[:]) >> 8
	reset := f.frame[3] == typeReset && length == resetFrame-frameHeader
	switch {
	case f.have == resetFrame:
		if binary.BigEndian.Uint32(f.frame[frameHeader:]) == protocolError {
			f.malformed.Store(true)
		}
	case reset:
		return // its code follows
	default:
		f.skip = length
	}
	f.have = 0
}

// dialFrames is dialShared, and looks at what comes.
func dialFrames(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := dialShared(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &frames{Conn: c}, nil
}

// dialSecureFrames is dialFrames over TLS as conf says, which may be nil. A transport that
// has HTTP/2 alone speaks it over connections that do not look like TLS. A backend
// that did not agree to it gets what the transport has for that.
func dialSecureFrames(conf *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	if conf == nil {
		conf = &tls.Config{}
	}
	conf.NextProtos = []string{"h2"}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dialShared(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		own := conf.Clone()
		host, _, _ := net.SplitHostPort(addr)
		own.ServerName = cmp.Or(own.ServerName, host)
		secure := tls.Client(c, own)
		shaking, done := context.WithTimeout(ctx, handshakeTime)
		defer done()
		if err := secure.HandshakeContext(shaking); err != nil {
			c.Close()
			return nil, err
		}
		if secure.ConnectionState().NegotiatedProtocol != "h2" {
			return secure, nil
		}
		return &frames{Conn: secure}, nil
	}
}
