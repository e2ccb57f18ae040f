package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/testenv"
)

// patience is how long a client waits for anything.
const patience = 10 * time.Second

var errEnded = errors.New("the connection ended")

// An order is what a connection carries. A server that speaks first is not told
// of it and sends shortOrder.
type order struct {
	up, down int // bytes
}

var shortOrder = order{down: 64}

// serve takes orders from clients, or, if it greets, gives each a short one at once.
func serve(l net.Listener, greets bool) {
	accept(l, func(c net.Conn) {
		defer c.Close()
		_ = serveConn(c, greets) // a client that is gone shows as a failed visit
	})
}

func serveConn(c net.Conn, greets bool) error {
	o := shortOrder
	if !greets {
		head := make([]byte, 16)
		if _, err := io.ReadFull(c, head); err != nil {
			return err
		}
		o = order{up: int(binary.BigEndian.Uint64(head)), down: int(binary.BigEndian.Uint64(head[8:]))}
	}
	buf := make([]byte, min(1<<17, max(o.up, o.down)))
	for o.up > 0 {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		o.up -= n
	}
	for o.down > 0 {
		n, err := c.Write(buf[:min(o.down, len(buf))])
		if err != nil {
			return err
		}
		o.down -= n
	}
	_, err := c.Read(buf[:1]) // the client closes first
	return err
}

// A visitor is a client whose sockets block its own thread: no scheduler's time
// is measured with them.
type visitor struct {
	to     unix.SockaddrInet4
	greets bool // the server speaks first
	buf    []byte
}

// visit makes one connection for an order.
func (v *visitor) visit(o order) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(int64(patience))
	for _, what := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, what, &limit); err != nil {
			return fmt.Errorf("limit waiting: %w", err)
		}
	}
	if err := again(func() error { return unix.Connect(fd, &v.to) }); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if !v.greets {
		if err := v.send(fd, o); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	for o.down > 0 {
		n, err := transfer(unix.Read, fd, v.buf[:min(o.down, len(v.buf))])
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		o.down -= n
	}
	return nil
}

// send sends an order and what goes up with it.
func (v *visitor) send(fd int, o order) error {
	head := binary.BigEndian.AppendUint64(nil, uint64(o.up))
	if _, err := transfer(unix.Write, fd, binary.BigEndian.AppendUint64(head, uint64(o.down))); err != nil {
		return err
	}
	for o.up > 0 {
		n, err := transfer(unix.Write, fd, v.buf[:min(o.up, len(v.buf))])
		if err != nil {
			return err
		}
		o.up -= n
	}
	return nil
}

// transfer is a read or write that no signal interrupts.
func transfer(call func(int, []byte) (int, error), fd int, buf []byte) (n int, err error) {
	err = again(func() error {
		n, err = call(fd, buf)
		return err
	})
	if err == nil && n == 0 {
		err = errEnded
	}
	return n, err
}

// again calls a system call until no signal interrupts it.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// visits are what became of some connections.
type visits struct {
	fails []error
	took  []time.Duration // each that was served, sorted

	cpu     time.Duration // of all who had to do with them
	cookies int           // SYNs that were answered with one
}

// visitAll makes n connections from a host, so many at a time.
func visitAll(h *testenv.Host, v visitor, n, atOnce int, o order) (all visits, err error) {
	var left atomic.Int64
	left.Store(int64(n))
	var mu sync.Mutex
	var waits []func() error
	for range atOnce {
		waits = append(waits, h.Go(func() error {
			v := visitor{to: v.to, greets: v.greets, buf: make([]byte, 1<<17)}
			var own visits
			for left.Add(-1) >= 0 {
				begin := time.Now()
				if err := v.visit(o); err != nil {
					own.fails = append(own.fails, err)
				} else {
					own.took = append(own.took, time.Since(begin))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all.fails = append(all.fails, own.fails...)
			all.took = append(all.took, own.took...)
			return nil
		}))
	}
	for _, wait := range waits {
		err = errors.Join(err, wait())
	}
	slices.Sort(all.took)
	return all, err
}
