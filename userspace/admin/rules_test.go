package admin

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/admin/adminpb/adminpbconnect"
	"fairlead/userspace/peercred"
)

// patient returns a context for a stream that is to end sooner.
func patient(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// wantDenied has an error be that a caller may not, for a reason.
func wantDenied(t *testing.T, when string, err error, why string) {
	t.Helper()
	if connect.CodeOf(err) != connect.CodePermissionDenied || !strings.Contains(err.Error(), why) {
		t.Errorf("%s: %v, want permission_denied, %s", when, err, why)
	}
}

// TestAnAuthorityThatIsOutIsSoForOpenConnections has somebody write before and after.
func TestAnAuthorityThatIsOutIsSoForOpenConnections(t *testing.T) {
	w, addr, a := serveTCP(t)
	own := a.sign(t, "fairlead.example", asItIs)
	w.UseTLS(own, a.pool())
	var now atomic.Pointer[tls.Certificate] // the client's
	now.Store(a.sign(t, "ops.example", asItIs))
	conf := &tls.Config{RootCAs: a.pool(), ServerName: "fairlead.example"}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return now.Load(), nil }
	c := speak(t, addr, conf)
	write := func() error {
		_, err := c.Apply(t.Context(), &adminpb.ApplyRequest{})
		return err
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	other := newAuthority(t)
	w.UseTLS(own, other.pool())
	wantDenied(t, "on the open connection", write(), "certificate ops.example is taken no more: x509: certificate signed by unknown authority")
	now.Store(other.sign(t, "ops.example", asItIs))
	if err := write(); err != nil {
		t.Errorf("who has another certificate by now: %v", err)
	}
	if n := len(w.plane.asked()); n != 2 {
		t.Errorf("%d changes, want 2", n)
	}
}

// TestAnAuthorityBetweenGoesByWhatTheClientHasSent signs a certificate by one that only
// the client knows.
func TestAnAuthorityBetweenGoesByWhatTheClientHasSent(t *testing.T) {
	w, addr, a := serveTCP(t)
	own := a.sign(t, "fairlead.example", asItIs)
	w.UseTLS(own, a.pool())
	between := newAuthority(t)
	ops := between.sign(t, "ops.example", asItIs)
	ops.Certificate = append(ops.Certificate, between.under(t, a))
	c := speak(t, addr, &tls.Config{RootCAs: a.pool(), ServerName: "fairlead.example", Certificates: []tls.Certificate{*ops}})
	for range 2 {
		if got := what(t, c); got != "write" {
			t.Errorf("%s, want write", got)
		}
	}
	w.UseTLS(own, newAuthority(t).pool())
	if got := what(t, c); got != "nothing" {
		t.Errorf("%s, want nothing", got)
	}
}

// under returns an authority's certificate as another one signs it.
func (a *authority) under(t *testing.T, above *authority) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, a.cert, above.cert, a.key.Public(), above.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// bubble calls f with a server that is spoken to by TLS over pipes, and a client whose
// certificate ends in a minute.
func bubble(t *testing.T, f func(t *testing.T, w *world, c adminpbconnect.AdminClient)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := &pipes{conns: make(chan net.Conn)}
		w := &world{plane: newPlane(), datapath: &datapath{}}
		w.Server = &Server{Plane: w.plane, Datapath: w.datapath, Log: discard}
		w.Use(&Access{Write: Callers{Certificates: []string{"ops.example"}}})
		a := newAuthority(t)
		w.UseTLS(a.sign(t, "fairlead.example", asItIs), a.pool())
		done := make(chan error)
		go func() { done <- w.Serve(ctx, w.Secure(l)) }()
		ops := a.sign(t, "ops.example", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Minute) })
		tr := &http.Transport{
			ForceAttemptHTTP2: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return l.dial(), nil },
			TLSClientConfig: &tls.Config{RootCAs: a.pool(), ServerName: "fairlead.example", Certificates: []tls.Certificate{*ops}},
		}
		f(t, w, adminpbconnect.NewAdminClient(&http.Client{Transport: tr}, "https://fairlead"))
		tr.CloseIdleConnections()
		cancel()
		<-done
	})
}

// TestACertificateThatEndsIsNoMore has one end while its connection and its stream go on.
func TestACertificateThatEndsIsNoMore(t *testing.T) {
	bubble(t, func(t *testing.T, _ *world, c adminpbconnect.AdminClient) {
		stream, err := c.Watch(patient(t, 2*time.Minute), &adminpb.WatchRequest{})
		if err != nil || !stream.Receive() {
			t.Fatal(err, stream.Err())
		}
		defer stream.Close()
		begin := time.Now()
		if stream.Receive() {
			t.Error("there is an event")
		}
		wantDenied(t, "the stream", stream.Err(), "expired")
		if took := time.Since(begin).Round(time.Second); took > time.Minute {
			t.Errorf("the stream ended after %s, want a minute", took)
		}
		_, err = c.GetStatus(t.Context(), &adminpb.GetStatusRequest{})
		wantDenied(t, "a call", err, "expired")
	})
}

// TestRunningCallsAreAnswered has somebody take the own role.
func TestRunningCallsAreAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world, c adminpbconnect.AdminClient) {
		w.plane.during = func() {
			w.Use(nil)
			w.UseTLS(&w.now().tls.Certificates[0], newAuthority(t).pool())
			synctest.Wait() // whoever follows the rules has seen them
		}
		if _, err := c.Apply(t.Context(), &adminpb.ApplyRequest{}); err != nil {
			t.Error(err)
		}
	})
}

// TestStreamsOfWhoMayNotGoOnEnd has roles change while streams are open.
func TestStreamsOfWhoMayNotGoOnEnd(t *testing.T) {
	const gone = "ops.example"
	readers := func(names ...string) *Access { return &Access{Read: Callers{Certificates: names}} }
	for _, row := range []struct {
		name   string
		change func(w *world, own *tls.Certificate, a *authority)
		ends   string // why; "" if the stream goes on
	}{
		{"the role is taken", func(w *world, _ *tls.Certificate, _ *authority) { w.Use(readers("other.example")) }, "may not call Watch"},
		{"everybody's role is taken", func(w *world, _ *tls.Certificate, _ *authority) { w.Use(nil) }, "may not call Watch"},
		{"the authority is out", func(w *world, own *tls.Certificate, _ *authority) { w.UseTLS(own, newAuthority(t).pool()) }, "unknown authority"},
		{"the authority is out and the role is taken later", func(w *world, own *tls.Certificate, a *authority) {
			w.UseTLS(own, a.pool())
			w.Use(readers("other.example", gone))
			w.Use(readers("other.example"))
		}, "may not call Watch"},
		{"the role is another one that may", func(w *world, _ *tls.Certificate, _ *authority) {
			w.Use(&Access{Write: Callers{Certificates: []string{gone}}})
		}, ""},
		{"another certificate of the server", func(w *world, _ *tls.Certificate, a *authority) {
			w.UseTLS(a.sign(t, "fairlead.example", asItIs), a.pool())
		}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			w, addr, a := serveTCP(t)
			own := a.sign(t, "fairlead.example", asItIs)
			w.Use(readers(gone))
			w.UseTLS(own, a.pool())
			c := speak(t, addr, &tls.Config{RootCAs: a.pool(), ServerName: "fairlead.example", Certificates: []tls.Certificate{*a.sign(t, gone, asItIs)}})
			stream, err := c.Watch(patient(t, 20*time.Second), &adminpb.WatchRequest{})
			if err != nil || !stream.Receive() {
				t.Fatal(err, stream.Err())
			}
			defer stream.Close()
			row.change(w, own, a)
			if row.ends == "" {
				w.plane.set(func() { w.plane.revision.Number = 8 })
				if !stream.Receive() || stream.Msg().GetRevision() != 8 {
					t.Errorf("the stream ended: %v", stream.Err())
				}
				return
			}
			if stream.Receive() {
				t.Errorf("there is %v", stream.Msg())
			}
			wantDenied(t, "the stream", stream.Err(), row.ends)
		})
	}
}

// TestFlowsOfWhoMayNotGoOnEnd has a role taken while flows are told.
func TestFlowsOfWhoMayNotGoOnEnd(t *testing.T) {
	d := &endless{begun: make(chan struct{})}
	s := &Server{Plane: newPlane(), Datapath: d, Log: discard}
	s.Use(&Access{Read: Callers{Allowed: peercred.Allowed{Users: []uint32{1002}}}})
	client := from(t, s, t.Context(), caller{peer: &peercred.Peer{UID: 1002}})
	stream, err := adminpbconnect.NewAdminClient(client, "http://fairlead").StreamFlows(patient(t, 20*time.Second), &adminpb.StreamFlowsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	<-d.begun
	s.Use(nil)
	for stream.Receive() {
	}
	wantDenied(t, "the stream", stream.Err(), "uid 1002")
}

// An endless datapath has flows for as long as somebody wants them.
type endless struct {
	datapath
	begun chan struct{}
}

func (e *endless) Flows(_ context.Context, _ *Filter, f func(*adminpb.Flow) bool) error {
	close(e.begun)
	for f(&adminpb.Flow{Path: pathKernel}) {
	}
	return nil
}

// TestReflectionOfWhoMayNotGoOnEnds has streams end on which nobody asks.
func TestReflectionOfWhoMayNotGoOnEnds(t *testing.T) {
	for _, version := range []string{"v1", "v1alpha"} {
		for _, row := range []struct {
			name string
			end  func(s *Server, stop func())
			code connect.Code
			why  string
		}{
			{"the role is taken", func(s *Server, _ func()) { s.Use(nil) }, connect.CodePermissionDenied, "uid 1002 may not call ServerReflectionInfo"},
			{"the agent ends", func(_ *Server, stop func()) { stop() }, connect.CodeUnavailable, "the agent ends"},
		} {
			t.Run(version+" "+row.name, func(t *testing.T) {
				s := &Server{Plane: newPlane(), Datapath: &datapath{}, Log: discard}
				s.Use(&Access{Read: Callers{Allowed: peercred.Allowed{Users: []uint32{1002}}}})
				ending, stop := context.WithCancel(t.Context())
				defer stop()
				client := from(t, s, ending, caller{peer: &peercred.Peer{UID: 1002}})
				stream := connect.NewClient[emptypb.Empty, emptypb.Empty](client, "http://fairlead/grpc.reflection."+version+".ServerReflection/ServerReflectionInfo", connect.WithGRPC()).
					CallBidiStream(patient(t, 20*time.Second))
				defer stream.CloseResponse()
				list := &emptypb.Empty{}
				list.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 7, protowire.BytesType), "*")) // list_services
				if err := stream.Send(list); err != nil {
					t.Fatal(err)
				}
				if _, err := stream.Receive(); err != nil {
					t.Fatal(err)
				}
				row.end(s, stop)
				if _, err := stream.Receive(); connect.CodeOf(err) != row.code || !strings.Contains(err.Error(), row.why) {
					t.Errorf("%v, want %v, %s", err, row.code, row.why)
				}
			})
		}
	}
}
