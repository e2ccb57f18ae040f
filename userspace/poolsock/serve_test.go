package poolsock

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestWhoNeverEndsIsEnded has clients that send a byte now and then for ever: before
// the answer, and after that to a line that is too long.
func TestWhoNeverEndsIsEnded(t *testing.T) {
	p := &plane{}
	s, dir := open(t, p)
	s.idle, s.whole = time.Hour, 200*time.Millisecond
	if err := s.Use([]string{"web"}, own()); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		fault error
		dial  func() net.Conn
	}{
		"before the answer": {errSlow, func() net.Conn {
			conn, err := net.Dial("unix", filepath.Join(dir, "pool.sock"))
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}},
		"after it": {errLong, func() net.Conn {
			served, conn := pair(t, dir)
			s.open.Go(func() { s.end(s.reader(served), errLong) })
			return conn
		}},
	} {
		t.Run(name, func(t *testing.T) {
			conn := row.dial()
			defer conn.Close()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for err := error(nil); err == nil; time.Sleep(10 * time.Millisecond) {
					_, err = io.WriteString(conn, "h")
				}
			}()
			answer, err := io.ReadAll(conn)
			if string(answer) != "fault: "+row.fault.Error()+"\n" || (err != nil && !errors.Is(err, syscall.ECONNRESET)) {
				t.Errorf("answer %q, error %v", answer, err)
			}
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Error("it may go on writing")
			}
			if p.taken() != nil {
				t.Errorf("changes %v", p.taken())
			}
		})
	}
}

// pair returns the two ends of a connection.
func pair(t *testing.T, dir string) (served *net.UnixConn, client net.Conn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "pair.sock")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if served, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	return served, client
}
