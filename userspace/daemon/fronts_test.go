package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/testenv/stage"
	"fairlead/userspace/model"
)

// echo is a backend on loopback.
func echo(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: loopback.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, func(c net.Conn) { _, _ = io.Copy(c, c) })
	return l
}

// serve has each connection that l accepts handled, and closed then, until the
// test ends.
func serve(t *testing.T, l net.Listener, handle func(net.Conn)) {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(t.Context(), func() { c.Close() })
			go func() {
				defer stop()
				defer c.Close()
				handle(c)
			}()
		}
	}()
}

// loopback is an address of this host that no other process uses, and port the
// first of some there.
var loopback = netip.AddrFrom4([4]byte{127, byte(1 + os.Getpid()>>16&0x7f), byte(os.Getpid() >> 8), byte(os.Getpid())})

const port = 20080

// frontOf opens a front over backends.
func frontOf(t *testing.T, backends ...*net.TCPListener) (*front, *model.Service) {
	t.Helper()
	s := &model.Service{
		Name: "web", Listen: netip.AddrPortFrom(loopback, port), LastPort: port, Protocol: model.TCP, OnDown: model.DownReset,
	}
	for _, b := range backends {
		s.Backends = append(s.Backends, model.Backend{Address: b.Addr().(*net.TCPAddr).AddrPort(), Weight: 1})
	}
	f := openFront(t.Context(), s, judgement{down: make([]bool, len(backends))}, frontOptionsOf(t, Options{Grace: time.Hour}))
	t.Cleanup(f.remove)
	return f, s
}

// frontOptionsOf returns what fronts need that share nothing with an agent.
func frontOptionsOf(t *testing.T, o Options) frontOptions {
	log, came := slog.New(slog.DiscardHandler), make(chan struct{})
	close(came)
	s := newSockets(map[string]*os.File{}, true, log)
	t.Cleanup(func() { s.clear(nil) })
	return frontOptions{grace: o.Grace, limits: newLimits(o), sockets: s, flowsCame: came, log: log}
}

// connected opens a connection that works.
func connected(t *testing.T, port uint16) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", netip.AddrPortFrom(loopback, port).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := errors.Join(c.SetDeadline(time.Now().Add(stage.Patience)), works(c)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFrontEndsOnlyWhatGoesToWhoIsGone(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a, b := echo(t), echo(t)
	f, s := frontOf(t, a, b)
	first, second := connected(t, s.Listen.Port()), connected(t, s.Listen.Port())
	f.update(s, judgement{down: []bool{true, false}})
	if err := works(first); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("connection to what is down: %v, want a reset", err)
	}
	if err := works(second); err != nil {
		t.Errorf("connection to what is up: %v", err)
	}
	f.remove() // does not wait for the grace of an hour
	if err := works(second); err == nil {
		t.Error("connection of a removed front goes on")
	}
	a.Close()
	b.Close()
}

func TestFrontKeepsWhatTheServiceKeeps(t *testing.T) {
	a := echo(t)
	f, s := frontOf(t, a)
	c := connected(t, s.Listen.Port())
	keep := *s
	keep.OnDown = model.DownKeep
	f.update(&keep, judgement{down: []bool{true}})
	if err := works(c); err != nil {
		t.Errorf("on-down: keep: %v", err)
	}
	gone := keep
	gone.Backends = nil
	f.update(&gone, judgement{})
	if err := works(c); err == nil {
		t.Error("connection to a removed backend goes on")
	}
}

func TestFrontTriesOnlyPortsThatItLacks(t *testing.T) {
	a := echo(t)
	other, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: loopback.AsSlice(), Port: port + 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s := &model.Service{
		Name: "web", Listen: netip.AddrPortFrom(loopback, port), LastPort: port + 2, Protocol: model.TCP,
		Backends: []model.Backend{{Address: a.Addr().(*net.TCPAddr).AddrPort(), Weight: 1}},
	}
	f := openFront(t.Context(), s, judgement{down: []bool{false}}, frontOptionsOf(t, Options{}))
	defer f.remove()
	if !strings.Contains(f.missing(), "another program listens") || !slices.Equal(f.ports(), []uint16{port, port + 2}) {
		t.Errorf("missing %q, lacking %v", f.missing(), f.lacking)
	}
	first, last := connected(t, port), connected(t, port+2)
	f.listen(context.Background())
	if f.missing() == "" {
		t.Error("took a port that another program has")
	}
	other.Close()
	f.listen(context.Background())
	if f.missing() != "" {
		t.Errorf("still missing: %s", f.missing())
	}
	connected(t, port+1)
	if err := errors.Join(works(first), works(last)); err != nil {
		t.Errorf("connections of the other ports: %v", err)
	}
}

func TestFrontJudgesClients(t *testing.T) {
	a := echo(t)
	f, s := frontOf(t, a)
	c := connected(t, s.Listen.Port())
	limited := *s
	limited.Clients.Limit = model.Limit{Rate: 1, Burst: 1, Prefix: 32}
	f.update(&limited, judgement{down: []bool{false}})
	guard := f.table.Load().guard
	same := limited
	f.update(&same, judgement{down: []bool{false}})
	if f.table.Load().guard != guard {
		t.Error("a reload without a change of clients forgets what they spent")
	}
	denied := limited
	denied.Clients = model.Clients{Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	f.update(&denied, judgement{down: []bool{false}})
	again, err := net.Dial("tcp4", s.Listen.String())
	if err == nil {
		defer again.Close()
		err = errors.Join(again.SetDeadline(time.Now().Add(stage.Patience)), works(again))
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("connection that is denied: %v, want a reset", err)
	}
	if err := works(c); err != nil {
		t.Errorf("connection that was open: %v", err)
	}
	if s := f.tcp.Stats(); s.Denied != 1 {
		t.Errorf("stats %+v, want one denied", s)
	}
}
