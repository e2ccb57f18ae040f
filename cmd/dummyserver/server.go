package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	grace   = 5 * time.Second // for requests that run at the end
	maxEcho = 64 << 10        // of a request's body
	maxUDP  = 65507           // the longest payload over IPv4
)

// A server answers on one port. It begins with [server.run], which closes it.
type server struct {
	message string
	tcp     net.Listener
	udp     *net.UDPConn
}

// listen opens port for TCP and UDP. Port 0 takes one that both have free.
func listen(ctx context.Context, port uint16, message string) (*server, error) {
	var err error
	for range 10 { // the TCP port that the system chose may be taken for UDP
		var s *server
		if s, err = listenOnce(ctx, port, message); err == nil {
			return s, nil
		}
		if port != 0 {
			break
		}
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w; choose another with --port or PORT", err)
	}
	return nil, err
}

func listenOnce(ctx context.Context, port uint16, message string) (*server, error) {
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, err
	}
	s := &server{message: message, tcp: tcp}
	udp, err := lc.ListenPacket(ctx, "udp", fmt.Sprintf(":%d", s.port()))
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	s.udp = udp.(*net.UDPConn) // documented for udp networks
	return s, nil
}

// close ends a server that has not begun.
func (s *server) close() error { return errors.Join(s.tcp.Close(), s.udp.Close()) }

func (s *server) port() int { return s.tcp.Addr().(*net.TCPAddr).Port }

// run answers until ctx is done, lets running requests end and returns nil. It
// returns earlier only with an error.
func (s *server) run(ctx context.Context) error {
	web := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // clients that break off are no news
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := web.Serve(s.tcp); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve HTTP: %w", err)
		}
		return nil
	})
	g.Go(s.echo)
	g.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if web.Shutdown(end) != nil {
			_ = web.Close() // who is not done by now is cut off
		}
		_ = s.udp.Close() // ends echo
		return nil
	})
	return g.Wait()
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/health", "/healthz", "/healthcheck"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, "ok\n") // a client that left needs no answer
		})
	}
	mux.HandleFunc("/", s.page)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Message", s.message)
		w.Header().Set("X-Client", r.RemoteAddr)
		mux.ServeHTTP(w, r)
	})
}

// page answers any other path with the message, the client and the request.
func (s *server) page(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEcho))
	if err != nil {
		http.Error(w, fmt.Sprintf("read body: %v", err), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	message := html.EscapeString(s.message)
	fmt.Fprintf(w, "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>%s</title></head>\n<body>\n"+
		"<h1>%s</h1>\n<p>You are %s.</p>\n<pre>%s %s\n%s</pre>\n</body>\n</html>\n",
		message, message, html.EscapeString(r.RemoteAddr),
		html.EscapeString(r.Method), html.EscapeString(r.RequestURI), html.EscapeString(string(body)))
}

// echo answers every datagram with the message, the client and the datagram,
// until the socket is closed.
func (s *server) echo() error {
	buf := make([]byte, 64<<10)
	for {
		n, client, err := s.udp.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("serve UDP: %w", err)
		}
		// A client that cannot be reached must not end the service.
		_, _ = s.udp.WriteToUDPAddrPort(s.answer(client, buf[:n]), client)
	}
}

func (s *server) answer(client netip.AddrPort, datagram []byte) []byte {
	seen := netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
	b := fmt.Appendf(nil, "%s %s ", s.message, seen)
	b = append(b, datagram...)
	return b[:min(len(b), maxUDP)]
}
