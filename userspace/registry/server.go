package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"fairlead/userspace/certs"
	"fairlead/userspace/model"
)

// Bounds of a Server.
const (
	maxConnections = 10_000
	headerTime     = 5 * time.Second
	requestTime    = 10 * time.Second
	answerTime     = time.Minute // a probe may take that long
	idleTime       = 5 * time.Minute
	endTime        = time.Second
)

// A Server is where backends register. The zero value listens nowhere. Its methods
// are for one goroutine.
type Server struct {
	// Listen opens the listener; nil is that of net. Its errors say what to do.
	Listen func(ctx context.Context, at string) (net.Listener, error)

	listen string
	cert   atomic.Pointer[tls.Certificate] // nil without TLS
	http   *http.Server
	done   chan struct{}
	ending sync.WaitGroup // of what answers where it listens no more
	grace  time.Duration  // for what is under way; 0 is endTime
}

// Address returns where the Server listens, "" for nowhere.
func (s *Server) Address() string { return s.listen }

// Use has handler answer where conf says, and nowhere if it is nil, from now on. An
// address that stays is not closed. On an error nothing is changed.
func (s *Server) Use(ctx context.Context, conf *model.Registration, handler http.Handler, log *slog.Logger) error {
	if conf == nil {
		s.leave()
		return nil
	}
	var cert *tls.Certificate
	if conf.Cert != "" {
		var err error
		if cert, err = certs.Read(model.Certificate{Cert: conf.Cert, Key: conf.Key}); err != nil {
			return fmt.Errorf("open registration: %w", err)
		}
	}
	if s.http != nil && s.listen == conf.Listen && (cert == nil) == (s.cert.Load() == nil) {
		s.cert.Store(cert)
		return nil
	}
	if s.http != nil && s.listen == conf.Listen { // with TLS and without it at one address
		s.leave()
	}
	listen := s.Listen
	if listen == nil {
		listen = func(ctx context.Context, at string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(ctx, "tcp", at)
		}
	}
	l, err := listen(ctx, conf.Listen)
	if err != nil {
		return fmt.Errorf("open registration: %w", err)
	}
	s.leave()
	s.listen = conf.Listen
	s.cert.Store(cert)
	s.serve(netutil.LimitListener(l, maxConnections), handler, log)
	return nil
}

// serve answers what comes to l.
func (s *Server) serve(l net.Listener, handler http.Handler, log *slog.Logger) {
	if s.cert.Load() != nil {
		l = tls.NewListener(l, &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.Load(), nil },
		})
	}
	s.http = &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
		MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.done = make(chan struct{})
	go func(h *http.Server, done chan struct{}) {
		defer close(done)
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("answer registrations", "err", err)
		}
	}(s.http, s.done)
}

// leave has the Server listen nowhere. What is under way has a second, for which nobody
// waits here: it may wait for who calls this.
func (s *Server) leave() {
	if s.http == nil {
		return
	}
	h, grace := s.http, cmp.Or(s.grace, endTime)
	s.ending.Go(func() {
		ctx, stop := context.WithTimeout(context.Background(), grace)
		defer stop()
		if h.Shutdown(ctx) != nil {
			h.Close()
		}
	})
	<-s.done
	s.http, s.listen = nil, ""
	s.cert.Store(nil)
}

// Close ends the Server; what is under way has a second. It can be used again.
func (s *Server) Close() {
	s.leave()
	s.ending.Wait()
}
