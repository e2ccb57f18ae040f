// Package web serves a page that shows what a running agent does.
//
// The page is some static files, which are in the program, and the read methods of
// the admin API, which it asks: what it shows is what the API says. It changes
// nothing, needs nothing from elsewhere, and asks nobody who they are.
package web

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

//go:embed static
var files embed.FS

// Bounds of what callers can hold.
const (
	headerTime = 10 * time.Second
	bodyTime   = 30 * time.Second
	answerTime = time.Minute
	idleTime   = 2 * time.Minute
	endTime    = 2 * time.Second
	maxHeader  = 16 << 10
)

// policy lets a page load what this server has, and nobody put it into another one.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Serve shows the page to whoever connects to l until ctx is done, and closes it. The
// methods of api, which must be harmless, are under apiPath. It returns nil, or why
// l broke.
func Serve(ctx context.Context, l net.Listener, apiPath string, api http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler: handler(apiPath, api), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTime, ReadTimeout: bodyTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		if server.Shutdown(end) != nil {
			server.Close() // what is still open is cut
		}
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve page on %s: %w", l.Addr(), err)
	}
	return nil
}

// handler serves the files and the API.
func handler(apiPath string, api http.Handler) http.Handler {
	static, err := fs.Sub(files, "static")
	if err != nil {
		panic(err) // a name that is not one
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(static))
	mux.Handle("POST "+apiPath, api)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ownHost(r.Host) {
			http.Error(w, "ask for this page by an IP address, or localhost: by another name any site could read it", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		mux.ServeHTTP(w, r)
	})
}

// ownHost reports whether a Host header cannot be the name of a foreign site, which
// its owner may have lead here (DNS rebinding).
func ownHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	_, err := netip.ParseAddr(name)
	return err == nil || strings.EqualFold(name, "localhost")
}
