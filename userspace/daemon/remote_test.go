package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"fairlead/userspace/control"
)

// A call is what tests want of the plane of an agent that is another process.
type call struct {
	Rollback uint64
	Export   bool
	Request  control.Request
}

// A result is what comes of a call.
type result struct {
	Revision control.Revision
	Export   string
	Err      string
}

func remoteSocket(runDir string) string { return filepath.Join(runDir, "test.sock") }

// serveRemote answers calls until the process ends, or stop is called.
func serveRemote(runDir string, p control.Plane) (stop func(), err error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(remoteSocket(runDir)); err != nil && !errors.Is(err, fs.ErrNotExist) { // a killed agent's
		return nil, err
	}
	l, err := net.Listen("unix", remoteSocket(runDir))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			end := context.AfterFunc(ctx, func() { conn.Close() })
			running.Go(func() {
				defer end()
				defer conn.Close()
				answerCalls(ctx, conn, p)
			})
		}
	})
	return func() { cancel(); l.Close(); running.Wait() }, nil
}

func answerCalls(ctx context.Context, conn net.Conn, p control.Plane) {
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	for {
		var c call
		if in.Decode(&c) != nil {
			return
		}
		var r result
		var err error
		switch {
		case c.Export:
			var text []byte
			text, err = p.Export()
			r.Export, r.Revision = string(text), p.Revision()
		case c.Rollback != 0:
			r.Revision, err = p.Rollback(ctx, c.Rollback, c.Request)
		default:
			changing.Store(true)
			r.Revision, err = p.Change(ctx, c.Request)
		}
		if err != nil {
			r.Err = err.Error()
		}
		if out.Encode(r) != nil {
			return
		}
	}
}

// A remote is a connection to the plane of an agent. One goroutine at a time may
// use it.
type remote struct {
	in  *json.Decoder
	out *json.Encoder
}

// remote connects to the agent's plane.
func (b *bench) remote() *remote {
	b.t.Helper()
	c, err := net.Dial("unix", remoteSocket(b.opts.RunDir))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return &remote{json.NewDecoder(c), json.NewEncoder(c)}
}

func (r *remote) do(c call) (res result, err error) {
	if err = r.out.Encode(c); err == nil {
		err = r.in.Decode(&res)
	}
	if err == nil && res.Err != "" {
		err = errors.New(res.Err)
	}
	return res, err
}

func (r *remote) exported(t *testing.T) string {
	t.Helper()
	res, err := r.do(call{Export: true})
	if err != nil {
		t.Fatal(err)
	}
	return res.Export
}
