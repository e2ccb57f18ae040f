package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/peercred"
)

// A pipes is a listener whose connections are pipes.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.conns) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// TestNobodyHoldsAConnectionForEver has callers who send nothing, or not all of it.
func TestNobodyHoldsAConnectionForEver(t *testing.T) {
	const head = "POST /fairlead.admin.v1.Admin/GetStatus HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
	for _, row := range []struct {
		name, send string
		within     time.Duration
	}{
		{"who sends nothing", "", headerTime},
		{"who stops within a header", head, headerTime},
		{"who stops within a body", head + "Content-Length: 9\r\n\r\n{", bodyTime + time.Second},
		{"who asks nothing more", head + "Content-Length: 2\r\n\r\n{}", idleTime + time.Second},
		{"who begins HTTP/2 and says nothing", http2.ClientPreface, idleTime + 2*time.Second},
		{"who begins HTTP/2 and goes on with settings", http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", idleTime + 2*time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				l := &pipes{conns: make(chan net.Conn)}
				s := &Server{Plane: newPlane(), Datapath: &datapath{}, Log: discard}
				done := make(chan error)
				go func() { done <- s.Serve(ctx, l) }()
				c := l.dial()
				begin := time.Now()
				go func() { _, _ = io.WriteString(c, row.send) }() // a pipe holds nothing
				_, _ = io.Copy(io.Discard, c)
				if took := time.Since(begin); took > row.within {
					t.Errorf("the connection ended after %s, want %s", took, row.within)
				}
				c.Close()
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		})
	}
}

// TestWhoTakesNothingLosesTheStream has a client that asks for much and reads
// nothing of it.
func TestWhoTakesNothingLosesTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &datapath{}
		for range 3 * flowsAtOnce {
			d.flows = append(d.flows, &adminpb.Flow{State: strings.Repeat("x", 1000)})
		}
		s := &Server{Plane: newPlane(), Datapath: d, Log: discard}
		l := &pipes{conns: make(chan net.Conn)}
		h, ended := s.handler(t.Context()), make(chan time.Time, 1)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, &peercred.Peer{})))
			ended <- time.Now()
		})}
		done := make(chan error, 1)
		go func() { done <- server.Serve(l) }()
		c := l.dial()
		const body = "\x00\x00\x00\x00\x02{}"
		_, err := io.WriteString(c, "POST /fairlead.admin.v1.Admin/StreamFlows HTTP/1.1\r\nHost: a\r\nContent-Type: application/connect+json\r\nContent-Length: 7\r\n\r\n"+body)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if took := (<-ended).Sub(begin); took < sendTime || took > 2*sendTime {
			t.Errorf("the stream ended after %s, want %s", took, sendTime)
		}
		c.Close()
		server.Close()
		<-done
	})
}
