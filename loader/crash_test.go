package loader

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// TestKilledAnywhere kills a command after each of its steps, and has the next
// command, attach or detach, find a way on.
func TestKilledAnywhere(t *testing.T) {
	for _, role := range []string{"attach", "grow", "revert", "detach"} {
		for _, next := range []string{"attach", "detach"} {
			t.Run(role+" then "+next, func(t *testing.T) {
				b := newBench(t)
				for step := 0; ; step++ {
					if role != "attach" {
						b.attach(roleOptions("attach"), nil)
						b.setCounter(3, 7)
					}
					killed := b.child(role, step)
					b.mendBy(next, role)
					if t.Failed() {
						t.Fatalf("after step %d", step)
					}
					if !killed {
						break
					}
				}
			})
		}
	}
}

// child runs a command in another process, which kills itself after some
// steps, and reports whether it came to that.
func (b *bench) child(role string, steps int) (killed bool) {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childRole+"="+role, childDir+"="+b.dir, childStep+"="+strconv.Itoa(steps))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := b.Run(cmd)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
		b.t.Logf("%s %s", role, bytes.TrimSpace(stderr.Bytes()))
		return true
	}
	b.t.Fatalf("%s: %v: %s", role, err, stderr.Bytes())
	return false
}

// mendBy runs the next command after one that was killed, checks what it left,
// and detaches.
func (b *bench) mendBy(next, role string) {
	b.t.Helper()
	if next == "attach" {
		b.attach(roleOptions("attach"), nil)
		b.wantWhole()
		if role == "grow" || role == "revert" {
			b.wantCounter(3, 7)
		}
		links := b.links()
		if links["d0"] != AttachNative || links["d1"] != AttachNative {
			b.t.Errorf("links = %v, want d0 and d1", links)
		}
	}
	b.Do(b.t, func() error {
		err := Detach(b.t.Context(), b.dir, nil)
		if next == "detach" && errors.Is(err, ErrNotAttached) {
			return nil // it came before there was an instance, or mended a removal
		}
		return err
	})
	b.wantNothing()
}
