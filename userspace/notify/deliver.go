package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// client posts to web hooks. It keeps no connections, and follows nobody who may
// not be meant to see the headers.
var client = http.Client{
	Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// deliver hands an event to the receiver, within its time.
func (r *receiver) deliver(ctx context.Context, e Event) error {
	ctx, cancel := context.WithTimeout(ctx, r.conf.Timeout)
	defer cancel()
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("make notification: %w", err)
	}
	if r.conf.URL != "" {
		return r.post(ctx, data)
	}
	return r.execute(ctx, e, data)
}

// post sends an event to a web hook. Its errors do not have the URL, which may be
// secret.
func (r *receiver) post(ctx context.Context, data []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.conf.URL, bytes.NewReader(data))
	if err != nil {
		return errors.New("post notification: bad url")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "fairlead-notify")
	for _, h := range r.conf.Headers {
		req.Header.Set(h.Name, h.Value)
	}
	res, err := client.Do(req)
	if cause, ok := errors.AsType[*url.Error](err); ok {
		err = cause.Err
	}
	if err != nil {
		return fmt.Errorf("post notification: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("post notification: status %d", res.StatusCode)
	}
	return nil
}

const (
	maxWords  = 512                    // of a command that fails
	lastWords = 100 * time.Millisecond // that its output is waited for
)

// execute runs a command for one event, which it gets as JSON and in its environment.
// It leads a process group, which is killed when time is up, and when it ends.
func (r *receiver) execute(ctx context.Context, e Event, data []byte) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, r.conf.Command[0], r.conf.Command[1:]...)
	cmd.Env = append(os.Environ(), "FAIRLEAD_SERVICE="+e.Service, "FAIRLEAD_BACKEND="+e.Backend, "FAIRLEAD_NAME="+e.Name,
		"FAIRLEAD_STATE="+e.State, "FAIRLEAD_REASON="+strings.ReplaceAll(e.Reason, "\x00", ""))
	cmd.Stdin = bytes.NewReader(data)
	cmd.Stderr = &limited{w: &out, left: maxWords}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = lastWords
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run command: %w", err)
	}
	err := cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left running; nothing, mostly
	if err == nil || errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("run command: %w: %q", err, bytes.TrimSpace(out.Bytes()))
}

// A limited writer swallows what goes beyond its bound.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	part := p[:min(len(p), l.left)]
	l.left -= len(part)
	if _, err := l.w.Write(part); err != nil {
		return 0, err
	}
	return len(p), nil
}
