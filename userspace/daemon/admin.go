package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"fairlead/userspace/admin"
	"fairlead/userspace/certs"
	"fairlead/userspace/model"
	"fairlead/userspace/peercred"
)

// adminSocket is the name of the admin API's socket in the run directory.
const adminSocket = "admin.sock"

// A desk is where the agent is asked and changed by others.
type desk struct {
	server    *admin.Server
	listeners []net.Listener
	socket    string      // its path; "" if there is none
	file      fs.FileInfo // the socket's
	listen    string      // where TCP is spoken; "" is nowhere
	conf      model.Admin // what the API goes by
	allowed   peercred.Allowed
}

// openDesk listens for calls of the admin API. An agent whose socket cannot be made
// balances nevertheless.
func (a *agent) openDesk(ctx context.Context) error {
	d := &a.desk
	d.server = &admin.Server{Plane: a.plane, Datapath: &packets{agent: a}, Log: a.log}
	conf := a.given.Load().Admin
	if conf.Listen != "" {
		l, err := a.sockets.own(ctx, "admin", conf.Listen)
		if err != nil {
			return fmt.Errorf("serve admin API: %w; choose another address in admin: listen", err)
		}
		d.listeners = append(d.listeners, d.server.Secure(l))
	}
	d.listen = conf.Listen
	if err := a.useAdmin(&conf); err != nil {
		return err
	}
	// At last: a process before this one has had its socket there.
	path := filepath.Join(a.opts.RunDir, adminSocket)
	if err := d.open(path); err != nil {
		a.log.Error("no admin socket", "err", err)
	}
	return nil
}

// open makes the socket.
func (d *desk) open(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	l, err := peercred.Listen(path, d.allowed)
	if err != nil {
		return err
	}
	d.listeners, d.socket = append(d.listeners, l), path
	d.file, err = os.Lstat(path)
	return err
}

// useAdmin has the admin API go by what a configuration says of it.
func (a *agent) useAdmin(conf *model.Admin) error {
	d := &a.desk
	if d.server == nil || reflect.DeepEqual(d.conf, *conf) && d.listen == "" {
		return nil
	}
	d.conf = *conf
	write, err := callersOf(&conf.Write)
	read, readErr := callersOf(&conf.Read)
	errs := []error{err, readErr}
	d.server.Use(&admin.Access{Write: write, Read: read})
	d.allowed = peercred.Allowed{Users: slices.Concat(write.Users, read.Users), Groups: slices.Concat(write.Groups, read.Groups)}
	if d.socket != "" {
		errs = append(errs, peercred.Allow(d.socket, d.allowed))
	}
	switch {
	case d.listen != conf.Listen:
		errs = append(errs, errDeskMoves)
	case d.listen != "":
		errs = append(errs, d.useTLS(conf))
	}
	return errors.Join(errs...)
}

var errDeskMoves = errors.New("what admin.listen says is for the next start")

// useTLS reads the files by which TCP is spoken.
func (d *desk) useTLS(conf *model.Admin) error {
	own, err := certs.Read(model.Certificate{Cert: conf.Cert, Key: conf.Key})
	if err != nil {
		return err
	}
	clients, err := certs.ReadPool(conf.ClientCA)
	if err == nil {
		d.server.UseTLS(own, clients)
	}
	return err
}

// callersOf returns those of a configuration. The error names users and groups that
// there are not; the others are returned with it.
func callersOf(who *model.Identities) (admin.Callers, error) {
	allowed, err := peercred.Named(who.Users, who.Groups)
	return admin.Callers{Allowed: allowed, Certificates: who.Certificates}, err
}

// serveDesk answers calls until ctx is done.
func (a *agent) serveDesk(ctx context.Context) {
	if len(a.desk.listeners) == 0 {
		return
	}
	if err := a.desk.server.Serve(ctx, a.desk.listeners...); ctx.Err() == nil {
		a.log.Error("admin API ends", "err", err)
	}
}

// close takes the socket away, unless another agent has its own there by now.
func (d *desk) close() error {
	for _, l := range d.listeners {
		l.Close() // again, if it has served
	}
	if d.file == nil {
		return nil
	}
	if now, err := os.Lstat(d.socket); err != nil || !os.SameFile(now, d.file) {
		return nil
	}
	return os.Remove(d.socket)
}
