package daemon

import (
	"syscall"
	"testing"
	"time"
)

// TestASuccessorServesAfterASlowDeath kills a process that has much to close: its successor
// hears of its end before it has let go of the state.
func TestASuccessorServesAfterASlowDeath(t *testing.T) {
	s := supervised(t, 20*time.Second)
	for range 500 {
		c, err := welcomed()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	release, was := s.hold(stepPrepared), s.pid()
	s.signal(syscall.SIGSTOP) // or it gives the successor its turn
	release()
	s.signal(syscall.SIGKILL)
	s.awaitEnd(was)
	s.awaitSuccessor(was)
	if err := visitTCP(); err != nil {
		t.Error(err)
	}
	s.stop()
}
