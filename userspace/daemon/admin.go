package daemon

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	"fairlead/userspace/admin"
	"fairlead/userspace/model"
	"fairlead/userspace/peercred"
)

// adminSocket is the name of the admin API's socket in the run directory.
const adminSocket = "admin.sock"

// A desk is where the agent is asked and changed by others.
type desk struct {
	server    *admin.Server
	listeners []net.Listener // of the socket
	socket    string         // its path; "" if there is none
	file      fs.FileInfo    // the socket's
	conf      model.Admin    // what the API goes by
	allowed   peercred.Allowed
	outlet    outlet
	ending    context.Context // outlets end with it
	end       context.CancelFunc
	speaking  sync.WaitGroup // outlets
}

// openDesk listens for calls of the admin API. An agent whose socket cannot be made
// balances nevertheless.
func (a *agent) openDesk(ctx context.Context) error {
	d := &a.desk
	d.server = &admin.Server{Plane: a.plane, Datapath: &packets{agent: a}, Log: a.log}
	d.ending, d.end = context.WithCancel(context.WithoutCancel(ctx))
	conf := a.given.Load().Admin
	if err := a.useAdmin(&conf); err != nil {
		return err
	}
	keep, err := a.prepareDesk(ctx, &conf)
	if keep(err == nil); err != nil {
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
	if d.server == nil || reflect.DeepEqual(d.conf, *conf) {
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
	return errors.Join(errs...)
}

// callersOf returns those of a configuration. The error names users and groups that
// there are not; the others are returned with it.
func callersOf(who *model.Identities) (admin.Callers, error) {
	allowed, err := peercred.Named(who.Users, who.Groups)
	return admin.Callers{Allowed: allowed, Certificates: who.Certificates}, err
}

// awaitView waits until there is a view: who asks for it earlier, such as in the moment
// in which a successor begins, is to wait, and not to be told that there is nothing.
func (a *agent) awaitView(ctx context.Context) {
	select {
	case <-a.shown:
	case <-ctx.Done():
	}
}

// serveDesk answers calls until ctx is done.
func (a *agent) serveDesk(ctx context.Context) {
	context.AfterFunc(ctx, a.desk.end)
	a.awaitView(ctx)
	if len(a.desk.listeners) == 0 {
		return
	}
	if err := a.desk.server.Serve(ctx, a.desk.listeners...); ctx.Err() == nil {
		a.log.Error("admin API ends", "err", err)
	}
}

// close takes the socket away, unless another agent has its own there by now.
func (d *desk) close() error {
	if d.end != nil {
		d.end()
		d.speaking.Wait()
	}
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
