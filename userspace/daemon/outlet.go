package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"fairlead/userspace/certs"
	"fairlead/userspace/model"
)

// An outlet is where the admin API speaks TCP; the zero value is nowhere.
type outlet struct {
	listen string
	files  credentials
	own    *tls.Certificate
	// clients are those whose certificates count.
	clients *x509.CertPool
	stop    context.CancelFunc
}

// credentials are paths of files.
type credentials struct{ cert, key, clientCA string }

// read returns an outlet for what the files have now, which listens nowhere.
func (c *credentials) read() (*outlet, error) {
	own, err := certs.Read(model.Certificate{Cert: c.cert, Key: c.key})
	if err != nil {
		return nil, err
	}
	clients, err := certs.ReadPool(c.clientCA)
	if err != nil {
		return nil, err
	}
	return &outlet{files: *c, own: own, clients: clients}, nil
}

// prepareDesk opens what a configuration says of TCP, if that is not what is open.
// What it returns, never nil, is called once: with true for that to count from now on,
// else to forget it.
func (a *agent) prepareDesk(ctx context.Context, conf *model.Admin) (keep func(bool), err error) {
	d := &a.desk
	files := credentials{conf.Cert, conf.Key, conf.ClientCA}
	if conf.Listen == d.outlet.listen && files == d.outlet.files {
		return func(bool) {}, nil
	}
	next := &outlet{}
	if conf.Listen != "" {
		if next, err = files.read(); err != nil {
			return func(bool) {}, fmt.Errorf("serve admin API: %w", err)
		}
	}
	next.listen, next.stop = conf.Listen, d.outlet.stop
	var l net.Listener
	if moved := conf.Listen != d.outlet.listen; moved && conf.Listen != "" {
		if l, err = a.sockets.own(ctx, "admin", conf.Listen); err != nil {
			return func(bool) {}, fmt.Errorf("serve admin API: %w; %s", err, adviceFor("admin: listen", d.outlet.listen, conf.Listen, err))
		}
	}
	return func(taken bool) {
		if taken {
			a.open(l, next)
		} else if l != nil {
			l.Close()
		}
	}, nil
}

// adviceFor says what to do where an address cannot be had that a key of the
// configuration names, by what listens at another one so far.
func adviceFor(key, was, listen string, err error) string {
	_, port, _ := net.SplitHostPort(listen)
	if _, old, _ := net.SplitHostPort(was); old == port && errors.Is(err, syscall.EADDRINUSE) {
		return "to listen on the same port at another address, restart the agent"
	}
	return "choose another address in " + key
}

// open makes o what is open: on l, or where the one before is if l is nil. That one
// lets calls end that run.
func (a *agent) open(l net.Listener, o *outlet) {
	d := &a.desk
	was := d.outlet
	d.outlet = *o
	if o.listen != "" {
		d.server.UseTLS(o.own, o.clients)
	}
	if o.listen != was.listen && was.stop != nil {
		was.stop()
		d.outlet.stop = nil
	}
	if l != nil {
		ctx, stop := context.WithCancel(d.ending)
		d.outlet.stop = stop
		d.speaking.Go(func() {
			a.awaitView(ctx)
			if err := d.server.Serve(ctx, d.server.Secure(l)); ctx.Err() == nil {
				a.log.Error("admin API ends", "err", err)
			}
		})
		a.log.Info("admin API listens", "address", l.Addr().String())
	}
	a.watchFiles()
}

// rereadDesk takes over what has changed in the files by which TCP is spoken.
func (a *agent) rereadDesk() {
	o := &a.desk.outlet
	if o.listen == "" {
		return
	}
	fresh, err := o.files.read()
	if a.news("admin files", err) {
		a.log.Error("certificate of the admin API not taken, the old one stays", "err", err)
	}
	if err != nil || slices.EqualFunc(fresh.own.Certificate, o.own.Certificate, bytes.Equal) && fresh.clients.Equal(o.clients) {
		return
	}
	o.own, o.clients = fresh.own, fresh.clients
	a.desk.server.UseTLS(o.own, o.clients)
	a.log.Info("certificate of the admin API taken", "file", o.files.cert)
}

// paths returns those of the files that are read again.
func (o *outlet) paths() []string {
	if o.listen == "" {
		return nil
	}
	return []string{o.files.cert, o.files.key, o.files.clientCA}
}
