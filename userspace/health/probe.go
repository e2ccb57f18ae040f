package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"fairlead/userspace/model"
)

// maxError bounds the text of an error that a backend has a say in.
const maxError = 512

// kinds are the ways to probe.
var kinds = map[model.CheckType]func(context.Context, Target) error{
	model.CheckNone:  func(context.Context, Target) error { return nil },
	model.CheckTCP:   probeTCP,
	model.CheckHTTP:  probeHTTP,
	model.CheckHTTPS: probeHTTP,
	model.CheckUDP:   probeUDP,
	model.CheckDNS:   probeDNS,
	model.CheckGRPC:  probeGRPC,
	model.CheckExec:  probeExec,
}

// Probe asks a target once, as its check says, and returns nil if it is healthy.
func Probe(ctx context.Context, t Target) error {
	t = t.normal()
	ctx, cancel := context.WithTimeout(ctx, t.Check.Timeout)
	defer cancel()
	return probe(ctx, t)
}

// probe asks a backend once and returns nil if it is healthy. It returns soon
// after ctx is done and leaves nothing behind.
func probe(ctx context.Context, t Target) error {
	kind := kinds[t.Check.Type]
	if kind == nil {
		return fmt.Errorf("probe backend: no check of type %q", t.Check.Type)
	}
	if t.Address.Port() == 0 && t.Check.Type != model.CheckExec && t.Check.Type != model.CheckNone {
		return errors.New("probe backend: neither it nor the check has a port")
	}
	err := kind(ctx, t)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("not done within %v: %w", t.Check.Timeout, err)
	}
	return err
}

// probeTCP is content with a connection.
//
// The kernel accepts it for the server: one that hangs or was stopped passes
// until its backlog is full. An HTTP check finds those.
func probeTCP(ctx context.Context, t Target) error {
	conn, err := dial(ctx, "tcp", t)
	if err != nil {
		return err
	}
	conn.Close()
	return nil
}

// probeUDP sends a datagram, an empty one if the check says nothing, and waits
// for an answer that contains what the check expects; any answer will do if
// that is nothing. Silence is a failure always, and so is an ICMP error, at
// once. Other answers are passed over.
func probeUDP(ctx context.Context, t Target) error {
	return exchange(ctx, t, []byte(t.Check.Send), func(answer []byte) error {
		if bytes.Contains(answer, []byte(t.Check.Expect)) {
			return nil
		}
		return fmt.Errorf("answer %s lacks %s", quote(answer), quote([]byte(t.Check.Expect)))
	})
}

// errFinal marks an answer that needs no better one to be waited for.
var errFinal = errors.New("answered with an error")

// exchange sends a datagram and gives the answers to judge until that returns
// nil, an [errFinal], or ctx is done.
func exchange(ctx context.Context, t Target, request []byte, judge func([]byte) error) error {
	conn, err := dial(ctx, "udp", t)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer interrupt(ctx, conn)()

	if _, err := conn.Write(request); err != nil {
		return fmt.Errorf("send datagram: %w", err)
	}
	answer := make([]byte, 64<<10)
	var last error
	for {
		n, err := conn.Read(answer)
		if err != nil && last != nil {
			return last
		}
		if err != nil {
			return fmt.Errorf("await answer: %w", err)
		}
		if last = judge(answer[:n]); last == nil || errors.Is(last, errFinal) {
			return last
		}
	}
}

// dial connects to the backend, past every proxy.
func dial(ctx context.Context, network string, t Target) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	c, err := d.DialContext(ctx, network, t.Address.String())
	first := t.Check.SendProxy.OwnHeader()
	if err != nil || first == "" {
		return c, err
	}
	if _, err := io.WriteString(c, first); err != nil { // it is too short to wait
		c.Close()
		return nil, fmt.Errorf("send PROXY header: %w", err)
	}
	return c, nil
}

// interrupt makes what uses conn fail once ctx is done. The function that it
// returns ends that.
func interrupt(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}

// quote makes what a backend said fit for an error of one line.
func quote(b []byte) string {
	b = bytes.TrimSpace(b)
	if len(b) > maxError {
		return fmt.Sprintf("%q...", b[:maxError])
	}
	return fmt.Sprintf("%q", b)
}

// plain reports whether s is a single word of a line of text.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

// isLocal reports whether a probe failed for want of something on this host:
// descriptors, ports, memory or processes.
func isLocal(err error) bool {
	for _, fault := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN,
	} {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}
