package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/userspace/handover"
	"fairlead/userspace/model"
	"fairlead/userspace/splice"
	"fairlead/userspace/supervise"
	"fairlead/userspace/udpproxy"
)

// sockets are those that the agent listens on. Each has a name, by which it is found
// again by the process that takes this one's place, or by the next one if the service
// manager keeps it. They are safe for concurrent use.
type sockets struct {
	log *slog.Logger

	mu sync.Mutex
	// idle are sockets that nobody serves: those of the process before this one, and
	// those that go from one service to another.
	idle map[string]*os.File
	open map[string]syscall.Conn
	// mute says that the manager does not hear this process yet.
	mute bool
	// ended says that what is closed now is to be kept for another process.
	ended bool
	// failed says that the manager does not keep one, and that this was logged.
	failed bool
}

// newSockets takes over some that nobody serves. If it is mute, the service manager
// learns of what becomes of them once settle is called.
func newSockets(idle map[string]*os.File, mute bool, log *slog.Logger) *sockets {
	return &sockets{log: log, idle: idle, open: map[string]syscall.Conn{}, mute: mute}
}

// settle has the manager keep the sockets that are served now, and closes the others.
func (s *sockets) settle() {
	s.mu.Lock()
	s.mute = false
	for name, c := range s.open {
		s.store(name, c)
	}
	s.mu.Unlock()
	s.clear(nil)
}

// store has the service manager keep a socket, which it may do already.
func (s *sockets) store(name string, c syscall.Conn) {
	if s.mute {
		return
	}
	err := withFD(c, func(fd int) error { return supervise.Store(name, fd) })
	if err != nil && !s.failed {
		s.failed = true
		s.log.Warn("a restart will close sockets", "err", err)
	}
}

// socketName names the socket of an address. A colon would end it: see
// [supervise.Store].
func socketName(kind, at string) string { return kind + "-" + strings.ReplaceAll(at, ":", "_") }

// nameOf names the socket of a service's port.
func nameOf(at netip.AddrPort, p model.Protocol) string { return socketName(string(p), at.String()) }

// addressOf is the reverse of nameOf; ok is false for other names.
func addressOf(name string) (at netip.AddrPort, p model.Protocol, ok bool) {
	kind, text, _ := strings.Cut(name, "-")
	at, err := netip.ParseAddrPort(strings.ReplaceAll(text, "_", ":"))
	return at, model.Protocol(kind), err == nil
}

// bars returns the address of an idle socket that keeps a service from listening, and
// is not what it would take over.
func (s *sockets) bars(service *model.Service) (at netip.AddrPort, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := service.Listen.Addr()
	for name := range s.idle {
		at, p, ok := addressOf(name)
		if ok && p == service.Protocol && at.Addr() != own && excludes(at.Addr(), own) && service.Listen.Port() <= at.Port() && at.Port() <= service.LastPort {
			return at, true
		}
	}
	return netip.AddrPort{}, false
}

// tcp listens on an address.
func (s *sockets) tcp(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	return listen(s, nameOf(at, model.TCP), adoptTCP, func() (*net.TCPListener, error) { return splice.Listen(ctx, at) })
}

// udp is tcp for UDP.
func (s *sockets) udp(ctx context.Context, at netip.AddrPort) (*net.UDPConn, error) {
	return listen(s, nameOf(at, model.UDP), adoptUDP, func() (*net.UDPConn, error) { return udpproxy.Listen(ctx, at) })
}

// own listens for something of the agent's own, such as metrics, on an address of TCP.
// It may be closed at any time.
func (s *sockets) own(ctx context.Context, what, at string) (net.Listener, error) {
	l, err := listen(s, socketName(what, at), adoptTCP, func() (*net.TCPListener, error) {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
		if err != nil {
			return nil, err
		}
		return l.(*net.TCPListener), nil
	})
	if err != nil {
		return nil, err
	}
	return &ownListener{l, s, socketName(what, at)}, nil
}

// An ownListener is kept by nobody once it is closed, unless the process ends.
type ownListener struct {
	net.Listener
	sockets *sockets
	name    string
}

func (l *ownListener) Close() error {
	err := l.Listener.Close()
	if err == nil {
		l.sockets.closed(l.name)
	}
	return err
}

// closed forgets the socket of a name, which was closed.
func (s *sockets) closed(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		delete(s.open, name)
		s.discard(name)
	}
}

// end has the manager keep what is closed from now on.
func (s *sockets) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

func adoptTCP(f *os.File) (*net.TCPListener, error) {
	return ofKind[*net.TCPListener](net.FileListener(f))
}

func adoptUDP(f *os.File) (*net.UDPConn, error) { return ofKind[*net.UDPConn](net.FilePacketConn(f)) }

// ofKind returns c as what it has to be, or closes it.
func ofKind[S io.Closer](c io.Closer, err error) (S, error) {
	s, ok := c.(S)
	if err == nil && !ok {
		err = errors.Join(errKind, c.Close())
	}
	return s, err
}

var errKind = errors.New("socket is of another kind")

// listen returns the socket of a name: the idle one, or else a new one, which the
// service manager is to keep.
func listen[S syscall.Conn](s *sockets, name string, adopt func(*os.File) (S, error), open func() (S, error)) (S, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.idle[name]; f != nil {
		delete(s.idle, name)
		c, err := adopt(f)
		f.Close()
		if err == nil {
			s.open[name] = c
			return c, nil
		}
		s.log.Warn("take socket over", "socket", name, "err", err)
		s.discard(name)
	}
	c, err := open()
	if err != nil {
		return c, err
	}
	s.open[name] = c
	s.store(name, c)
	return c, nil
}

// withFD calls f with the descriptor of c.
func withFD(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}

// discard has the manager close what it keeps by some names, and waits for that: the
// addresses are free then.
func (s *sockets) discard(names ...string) {
	if s.mute || len(names) == 0 {
		return
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, supervise.Remove(name))
	}
	if err := errors.Join(append(errs, supervise.Await(managerTime))...); err != nil {
		s.log.Warn("let go of sockets", "sockets", names, "err", err)
	}
}

// managerTime is how long the service manager may take to close what it keeps.
const managerTime = time.Second

// twin returns another descriptor of c.
func twin(name string, c syscall.Conn) (f *os.File, err error) {
	err = withFD(c, func(fd int) error {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			f = os.NewFile(uintptr(n), name)
		}
		return err
	})
	return f, err
}

// park has the socket of a name stay when its service lets go of it: what comes
// waits until another service listens there, or clear finds that none does.
func (s *sockets) park(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.open[name]
	if c == nil {
		return
	}
	delete(s.open, name)
	f, err := twin(name, c)
	if err != nil { // it is broken, or no descriptor is left
		s.discard(name)
		return
	}
	s.idle[name] = f
}

// clear closes the sockets that nobody serves, but for those that a state, which may
// be nil, will have served. Their addresses are free then.
func (s *sockets) clear(state *model.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) == 0 {
		return
	}
	wanted := namesOf(state)
	var over []string
	for name, f := range s.idle {
		if !wanted[name] {
			f.Close()
			delete(s.idle, name)
			over = append(over, name)
		}
	}
	s.discard(over...)
}

// namesOf returns the names of the sockets of services.
func namesOf(state *model.State) map[string]bool {
	names := map[string]bool{}
	if state == nil {
		return names
	}
	for i := range state.Services {
		s := &state.Services[i]
		for port := int(s.Listen.Port()); port <= int(s.LastPort); port++ {
			names[nameOf(netip.AddrPortFrom(s.Listen.Addr(), uint16(port)), s.Protocol)] = true
		}
	}
	return names
}

// has reports whether a socket of an address is the agent's, served or idle.
func (s *sockets) has(at netip.AddrPort, p model.Protocol) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := nameOf(at, p)
	return s.open[name] != nil || s.idle[name] != nil
}

// hand returns the open sockets with descriptors of their own, for another process. What
// that has already is left out: handed has it by name, and gets the rest.
func (s *sockets) hand(handed map[string]syscall.Conn) (all []handover.Item, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, c := range s.open {
		if handed[name] == c {
			continue
		}
		handed[name] = c
		f, err := twin(name, c)
		if err != nil {
			handover.Close(all)
			return nil, fmt.Errorf("hand socket over: %w", err)
		}
		all = append(all, handover.Item{Text: name, File: f})
	}
	return all, nil
}
