package httpproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"fairlead/userspace/accesslog"
)

// tunnel hands the client an answer by which its connection changes the protocol,
// and moves bytes both ways until both sides have ended, one breaks, or nothing
// moves for too long. It returns errTunnelled, or why it did not come to that.
//
// It is in place of [httputil.ReverseProxy]'s own, which loses what the client
// has sent by then and lets hop-by-hop headers pass (golang/go#80875).
func (x *exchange) tunnel(res *http.Response) error {
	backend, ok := res.Body.(io.ReadWriteCloser)
	asked, got := x.in.Header.Get("Upgrade"), res.Header.Get("Upgrade")
	if !ok || asked == "" || !strings.EqualFold(asked, got) {
		return fmt.Errorf("backend changes to protocol %q where %q was asked for", got, asked)
	}
	client, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return fmt.Errorf("take connection over: %w", err)
	}
	x.proxy.tunnels.Add(1)
	x.proxy.answers.add(res.StatusCode)
	if x.w.note != nil {
		x.w.note.tunnelled = true
	}
	x.w.upload.leave()
	ends := sync.OnceFunc(func() {
		client.Close()
		backend.Close()
	})
	defer ends()
	x.attempt.watch.call(func(error) {
		x.w.note.ends(accesslog.Agent, accesslog.Timeout)
		ends()
	})
	x.attempt.touch()
	defer context.AfterFunc(x.attempt.ctx, func() {
		x.w.note.ends(accesslog.Agent, accesslog.Cut)
		ends()
	})()

	removeHopByHop(res.Header)
	res.Header.Set("Connection", "Upgrade")
	res.Header.Set("Upgrade", got)
	fmt.Fprintf(buffered, "HTTP/1.1 %03d %s\r\n", res.StatusCode, http.StatusText(res.StatusCode))
	err = errors.Join(res.Header.Write(buffered), writeEnd(buffered))
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return errTunnelled // the client is gone
	}
	var up sync.WaitGroup
	// The server's reader takes the end of what a client sends for the end of its request.
	early := io.LimitReader(buffered.Reader, int64(buffered.Reader.Buffered()))
	up.Go(func() { x.move(backend, io.MultiReader(early, client), accesslog.Client, ends) })
	x.move(client, backend, accesslog.Backend, ends)
	up.Wait()
	return errTunnelled
}

func writeEnd(w io.Writer) error {
	_, err := io.WriteString(w, "\r\n")
	return err
}

// move copies what from sends until it ends, which it tells dst, or breaks both.
func (x *exchange) move(dst io.Writer, src io.Reader, from accesslog.Party, ends func()) {
	b, note := moving.Get(), x.w.note
	defer moving.Put(b)
	for {
		n, err := src.Read(b)
		note.moved(from == accesslog.Client, n)
		x.attempt.touch()
		if n > 0 {
			if _, err := dst.Write(b[:n]); err != nil {
				note.ends(other(from), accesslog.Reset)
				ends()
				return
			}
			x.attempt.touch()
		}
		if err == nil {
			continue
		}
		if err == io.EOF {
			note.ends(from, accesslog.Done)
		} else {
			note.ends(from, accesslog.Reset)
		}
		half, ok := dst.(interface{ CloseWrite() error })
		if err != io.EOF || !ok || half.CloseWrite() != nil {
			ends()
		}
		return
	}
}

func other(p accesslog.Party) accesslog.Party {
	if p == accesslog.Client {
		return accesslog.Backend
	}
	return accesslog.Client
}

// removeHopByHop removes headers that are about the backend's connection alone.
func removeHopByHop(h http.Header) {
	for _, line := range h.Values("Connection") {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		h.Del(name)
	}
}
