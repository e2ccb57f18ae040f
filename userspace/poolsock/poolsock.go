// Package poolsock lets a line of text replace the backends of a pool.
//
// Each pool has a unix socket, <dir>/pool/<name>.sock; <dir>/pool.sock leads to it
// where there is exactly one. A request is one line of backends with commas
// between them, as the configuration has them:
//
//	echo "http://localhost:3000,http://localhost:3001" | nc -U /run/fairlead/pool.sock
//
// The answer is the line "ok", or "fault: " and what is wrong, and the connection
// ends. A fault changes nothing. Backends that stay keep their weights and
// connections. It is a change as those of the admin API are: with a revision, and
// for those who may change things there.
package poolsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"fairlead/userspace/control"
	"fairlead/userspace/peercred"
)

// A Server has the sockets of some pools.
type Server struct {
	dir   string
	plane control.Plane
	log   *slog.Logger
	idle  time.Duration // how long a client may send nothing
	whole time.Duration // how long it may take to send all

	mu      sync.Mutex
	allowed peercred.Allowed
	sockets map[string]*socket // by pool
	yielded bool
	// room has an element for each connection that may be open.
	room chan struct{}
	open sync.WaitGroup
	ctx  context.Context // of connections
	stop context.CancelFunc
}

// maxOpen is how many connections all sockets may have at once: each holds a line.
const maxOpen = 64

// New returns a Server for a run directory, whose changes plane carries out. It has
// no sockets before [Server.Use].
func New(dir string, plane control.Plane, log *slog.Logger) *Server {
	ctx, stop := context.WithCancel(context.Background())
	return &Server{
		dir: dir, plane: plane, log: log, idle: maxIdle, whole: maxTime,
		sockets: map[string]*socket{}, room: make(chan struct{}, maxOpen), ctx: ctx, stop: stop,
	}
}

// A socket is one that listens.
type socket struct {
	*net.UnixListener
	path string
	file fs.FileInfo // what path was when it began to listen
}

// Use makes the sockets those of some pools, for those who are allowed: they come
// and go, and those of pools that stay go on listening. The error tells of pools
// whose sockets cannot be made; the others have theirs.
func (s *Server) Use(pools []string, allowed peercred.Allowed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil
	}
	var errs []error
	moved := !slices.Equal(s.allowed.Users, allowed.Users) || !slices.Equal(s.allowed.Groups, allowed.Groups)
	s.allowed = allowed
	if err := s.makeDir(); err != nil {
		return fmt.Errorf("make directory of pool sockets: %w", err)
	}
	wanted := map[string]bool{}
	for _, name := range pools {
		wanted[name] = true
		switch {
		case s.sockets[name] == nil:
			errs = append(errs, s.listen(name))
		case moved:
			errs = append(errs, peercred.Allow(s.path(name), allowed))
		}
	}
	for name, k := range s.sockets {
		if !wanted[name] {
			errs = append(errs, k.close())
			delete(s.sockets, name)
		}
	}
	return errors.Join(append(errs, s.link(pools))...)
}

// makeDir makes the directory of sockets, which others pass whatever the umask is.
func (s *Server) makeDir() error {
	path := filepath.Join(s.dir, "pool")
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, 0o755)
}

// listen opens the socket of a pool.
func (s *Server) listen(name string) error {
	path := s.path(name)
	l, err := peercred.Listen(path, s.allowed)
	if err != nil {
		return fmt.Errorf("open socket of pool %s: %w", name, err)
	}
	file, err := os.Lstat(path)
	if err != nil {
		l.Close() // somebody has taken the file away
		return fmt.Errorf("open socket of pool %s: %w", name, err)
	}
	k := &socket{UnixListener: l, path: path, file: file}
	s.sockets[name] = k
	s.open.Go(func() { s.accept(name, k) })
	return nil
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, "pool", name+".sock") }

// link has pool.sock lead to the only pool's socket, if there is one.
func (s *Server) link(pools []string) error {
	path := filepath.Join(s.dir, "pool.sock")
	target := ""
	if len(pools) == 1 {
		target = filepath.Join("pool", pools[0]+".sock")
	}
	if now, err := os.Readlink(path); err == nil && now == target {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("change pool.sock: %w", err)
	}
	if target == "" {
		return nil
	}
	if err := os.Symlink(target, path); err != nil {
		return fmt.Errorf("change pool.sock: %w", err)
	}
	return nil
}

// close ends a socket and removes it.
func (k *socket) close() error {
	k.Close() // it only ends once
	return k.remove()
}

// remove takes the file of a socket away, unless it is another's by now.
func (k *socket) remove() error {
	if now, err := os.Lstat(k.path); err != nil || !os.SameFile(now, k.file) {
		return nil
	}
	if err := os.Remove(k.path); err != nil {
		return fmt.Errorf("remove socket: %w", err)
	}
	return nil
}

// Yield takes the files of all sockets away, for another process to make them anew,
// and leaves what is there from then on alone. [Server.Close] is still to be called.
func (s *Server) Yield() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, k := range s.sockets {
		errs = append(errs, k.remove())
		k.file = nil
	}
	if len(s.sockets) > 0 && !s.yielded {
		if err := os.Remove(filepath.Join(s.dir, "pool.sock")); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	s.yielded = true
	return errors.Join(errs...)
}

// Close ends all sockets and connections and waits for them. A change that is under
// way is given up.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	var errs []error
	own := len(s.sockets) > 0 && !s.yielded
	for name, k := range s.sockets {
		errs = append(errs, k.close())
		delete(s.sockets, name)
	}
	if now, err := os.Readlink(filepath.Join(s.dir, "pool.sock")); own && err == nil {
		if _, err := os.Lstat(filepath.Join(s.dir, now)); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, os.Remove(filepath.Join(s.dir, "pool.sock")))
		}
	}
	s.mu.Unlock()
	s.open.Wait()
	return errors.Join(errs...)
}
