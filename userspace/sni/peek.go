// Package sni finds out for which server a TLS connection is, without taking a
// byte from it, and which of some routes that is.
//
// It looks at the ClientHello where the kernel keeps it. What follows, and who is
// asked to speak TLS, is not its concern.
package sni

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what a client may take to say its name.
const (
	MaxHello = 32 << 10 // bytes
	Timeout  = 10 * time.Second
)

// room is for a ClientHello and the heads of its records, of which a client has no
// reason to make many.
const room = MaxHello + 4<<10

var buffers = sync.Pool{New: func() any { return new([room]byte) }}

// Peek waits for the ClientHello on c and returns the name in it, in lower case;
// "" if there is none. It gives up with ctx and after [Timeout]. All bytes stay to
// be read. Errors that are the client's fault wrap [ErrNotTLS], [ErrLong],
// [io.ErrUnexpectedEOF] or [os.ErrDeadlineExceeded].
func Peek(ctx context.Context, c *net.TCPConn) (name string, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return "", fmt.Errorf("look at connection: %w", err)
	}
	if err := c.SetReadDeadline(time.Now().Add(Timeout)); err != nil {
		return "", fmt.Errorf("look at connection: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	waited := raw.Read(func(fd uintptr) bool {
		name, err = look(int(fd))
		return !errors.Is(err, errShort) && !errors.Is(err, unix.EAGAIN)
	})
	if !stop() {
		return "", context.Cause(ctx)
	}
	if waited != nil {
		err = waited
	}
	if err != nil {
		return "", fmt.Errorf("read ClientHello: %w", err)
	}
	return name, c.SetReadDeadline(time.Time{})
}

// look looks at what has come on a socket by now.
func look(fd int) (string, error) {
	b := buffers.Get().(*[room]byte)
	defer buffers.Put(b)
	n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK)
	switch {
	case errors.Is(err, unix.EINTR):
		return look(fd)
	case err != nil:
		return "", err
	case n == 0:
		return "", io.ErrUnexpectedEOF
	}
	name, err := nameOf(b[:n])
	switch {
	case !errors.Is(err, errShort):
		return name, err
	case n == len(b):
		return "", ErrLong
	case ended(fd):
		return "", io.ErrUnexpectedEOF
	}
	return "", errShort
}

// ended reports whether nothing more will come on a socket.
func ended(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err != nil || info.State != unix.BPF_TCP_ESTABLISHED
}
