package poolsock

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWhoNeverEndsIsEnded has clients that send a byte now and then for ever: before
// the answer, and after that to a line that is too long.
func TestWhoNeverEndsIsEnded(t *testing.T) {
	for first, want := range map[string]error{"": errSlow, strings.Repeat("h", maxLine+100): errLong} {
		p := &plane{}
		s, dir := open(t, p)
		s.idle, s.whole = time.Hour, 200*time.Millisecond
		if err := s.Use([]string{"web"}, own()); err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("unix", filepath.Join(dir, "pool.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, err := io.WriteString(conn, first)
			for err == nil {
				_, err = io.WriteString(conn, "h")
				time.Sleep(10 * time.Millisecond)
			}
		}()
		answer, err := io.ReadAll(conn)
		if string(answer) != "fault: "+want.Error()+"\n" || (err != nil && !errors.Is(err, syscall.ECONNRESET)) {
			t.Errorf("answer %q, error %v", answer, err)
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("it may go on writing after %q", answer)
		}
		if p.taken() != nil {
			t.Errorf("changes %v", p.taken())
		}
	}
}
