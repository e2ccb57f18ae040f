package daemon

import (
	"context"
	"fmt"
	"net/netip"

	"fairlead/userspace/admin"
	"fairlead/userspace/web"
)

// openWeb listens where the page is.
func (a *agent) openWeb(ctx context.Context) error {
	if a.opts.Web == metricsOff {
		return nil
	}
	l, err := a.sockets.own(ctx, "web", a.opts.Web)
	if err != nil {
		return fmt.Errorf("show the page: %w; choose another address with --web, or off", err)
	}
	if at, err := netip.ParseAddrPort(l.Addr().String()); err != nil || !at.Addr().IsLoopback() {
		a.log.Warn("the page is for everybody who can connect to it", "address", l.Addr().String())
	}
	a.page = l
	return nil
}

// serveWeb shows the page until ctx is done.
func (a *agent) serveWeb(ctx context.Context) {
	if a.page == nil {
		return
	}
	a.awaitView(ctx)
	if err := web.Serve(ctx, a.page, admin.Path, a.desk.server.Public(ctx), a.log); err != nil {
		a.log.Error("show the page", "err", err)
	}
}
