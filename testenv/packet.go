package testenv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// injectTimeout bounds how long [Host.Inject] tries with one frame.
const injectTimeout = 10 * time.Second

// Inject sends frames out of an interface of the host as they are. A frame
// that a full queue refuses is tried again until it is taken.
func (h *Host) Inject(tb TB, iface string, frames ...[]byte) {
	tb.Helper()
	h.Do(tb, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		defer unix.Close(fd)
		l, err := netlink.LinkByName(iface)
		if err != nil {
			return fmt.Errorf("find link %s: %w", iface, err)
		}
		to := &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index}
		for i, frame := range frames {
			if err := sendFrame(fd, to, frame); err != nil {
				return fmt.Errorf("send frame %d to %s: %w", i, iface, err)
			}
		}
		return nil
	})
}

func sendFrame(fd int, to unix.Sockaddr, frame []byte) error {
	deadline := time.Now().Add(injectTimeout)
	for {
		err := unix.Sendto(fd, frame, 0, to)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR),
			time.Now().After(deadline):
			return err
		}
		runtime.Gosched()
	}
}

// A Sniffer receives a copy of every frame that arrives at an interface.
type Sniffer struct {
	iface string
	file  *os.File
	buf   []byte
}

// Sniff starts to receive; [Sniffer.Next] hands out what came since then. The
// test closes it.
//
// GRO of the interface is switched off, so that TCP segments are seen one by
// one; so that redirected frames still arrive, a program that passes them is
// attached unless there is one. Count before you sniff.
func (h *Host) Sniff(tb TB, iface string) *Sniffer {
	tb.Helper()
	var attached bool
	h.Do(tb, func() error {
		l, err := netlink.LinkByName(iface)
		if err != nil {
			return fmt.Errorf("find link %s: %w", iface, err)
		}
		attached = l.Attrs().Xdp != nil && l.Attrs().Xdp.Attached
		return nil
	})
	if !attached {
		h.CountFrames(tb, iface)
	}
	h.SetFeature(tb, iface, "rx-gro", false)
	s := &Sniffer{iface: iface, buf: make([]byte, 1<<16)}
	h.Do(tb, func() error {
		fd, err := openSniffer(iface)
		if err != nil {
			return fmt.Errorf("sniff on %s: %w", iface, err)
		}
		s.file = os.NewFile(uintptr(fd), "sniffer")
		return nil
	})
	tb.Cleanup(func() { s.file.Close() })
	return s
}

func openSniffer(iface string) (int, error) {
	l, err := netlink.LinkByName(iface)
	if err != nil {
		return 0, err
	}
	// Protocol 0 receives nothing until bind says from where.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index}),
	)
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// Next returns the next frame, or the cause of ctx when that is done first.
// One goroutine may call it at a time.
func (s *Sniffer) Next(ctx context.Context) ([]byte, error) {
	if err := s.file.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("sniff on %s: %w", s.iface, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) })
	n, err := s.file.Read(s.buf)
	if !stop() && ctx.Err() != nil && err != nil {
		return nil, fmt.Errorf("sniff on %s: %w", s.iface, context.Cause(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("sniff on %s: %w", s.iface, err)
	}
	return append([]byte(nil), s.buf[:n]...), nil
}
