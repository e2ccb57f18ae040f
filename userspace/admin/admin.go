// Package admin serves the admin API of a running agent: gRPC, gRPC-Web and JSON
// on one handler, as adminpb/admin.proto describes it.
//
// It decides who may call what, and turns calls into requests to a [control.Plane]
// and a [Datapath], which do the work. Who calls is what the kernel says of a unix
// socket's peer, or a verified certificate; nothing else counts.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/control"
)

// A Datapath knows packets and flows. Its methods are called from any goroutine.
type Datapath interface {
	// Flows calls f with flows that fit a filter until it returns false.
	Flows(ctx context.Context, which *Filter, f func(*adminpb.Flow) bool) error
	// Kill ends flows that fit a filter, and returns how many.
	Kill(ctx context.Context, which *Filter) (uint64, error)
	// Stats returns what was counted.
	Stats(ctx context.Context) (*adminpb.Stats, error)
	// Explain says what would become of a packet. The error wraps [ErrRequest] if
	// there is no such packet, [ErrNoXDP] if XDP does not run.
	Explain(ctx context.Context, packet *adminpb.ExplainRequest) (*adminpb.Explanation, error)
}

var (
	// ErrRequest says that a call makes no sense.
	ErrRequest = errors.New("invalid request")
	// ErrNoXDP says that there is no datapath in the kernel.
	ErrNoXDP = errors.New("xdp does not run")
)

// A Server answers calls. Its fields must not change once Serve runs.
type Server struct {
	Plane    control.Plane
	Datapath Datapath
	Log      *slog.Logger

	rules atomic.Pointer[rules]
}

// Use says who may do what from now on. Without it only root and the process's own
// user may do anything. Streams of who may not go on end soon.
func (s *Server) Use(a *Access) { s.rule(func(r *rules) { r.access = a }) }

// Bounds of what callers can hold.
const (
	maxMessage  = 16 << 20 // a configuration of some ten thousand services
	maxHeader   = 16 << 10
	maxStreams  = 100
	headerTime  = 10 * time.Second
	bodyTime    = 30 * time.Second
	answerTime  = 2 * time.Minute // for a change that waits for its backends' checks, too
	sendTime    = 30 * time.Second
	idleTime    = 2 * time.Minute
	pingTime    = 30 * time.Second
	shutdownFor = 5 * time.Second
)

// Serve answers on listeners, which are unix sockets or those of [Server.Secure],
// until ctx is done, and closes them. Streams end then; calls that run have some
// seconds to end. It waits for its goroutines, and returns [context.Cause] of ctx,
// or why a listener broke.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler: s.handler(ctx), Protocols: &protocols, ConnContext: withCaller, MaxHeaderBytes: maxHeader,
		DisableGeneralOptionsHandler: true, // OPTIONS * is no method either
		ReadHeaderTimeout:            headerTime, ReadTimeout: bodyTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReadFrameSize: 16 << 10, SendPingTimeout: pingTime, PingTimeout: pingTime, WriteByteTimeout: sendTime,
		},
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	broken := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() {
			err := server.Serve(l)
			if !errors.Is(err, http.ErrServerClosed) {
				err = fmt.Errorf("serve admin API on %s: %w", l.Addr(), err)
			}
			broken <- err
		}()
	}
	var err error
	running := len(listeners)
	select {
	case err = <-broken:
		running--
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownFor)
	defer cancel()
	if server.Shutdown(end) != nil {
		_ = server.Close() // what is still open is cut
	}
	for range running {
		<-broken
	}
	return err
}
