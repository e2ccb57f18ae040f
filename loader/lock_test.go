package loader

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// await waits until a condition holds.
func (b *bench) await(what string, holds func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// holdElsewhere starts a process that takes a lock. It returns its id, and a
// function that kills it and waits for its end.
func (b *bench) holdElsewhere(role string) (pid int, kill func()) {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childRole+"="+role, childDir+"="+b.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	b.Start(b.t, cmd)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		b.t.Fatalf("child said %q: %v", line, err)
	}
	return cmd.Process.Pid, func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

func TestLockKeepsAnotherProcessAway(t *testing.T) {
	b := newBench(t)
	pid, kill := b.holdElsewhere("lock")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	want := fmt.Sprintf("process %d (", pid)
	_, err := NewLock(ctx, b.dir)
	if !errors.Is(err, ErrLocked) || !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("NewLock: %v, want ErrLocked and %q", err, want)
	}
	if _, err := NewSharedLock(ctx, b.dir); !errors.Is(err, ErrLocked) {
		t.Errorf("NewSharedLock: %v, want ErrLocked", err)
	}
	kill()
	if err := b.lock().Unlock(); err != nil {
		t.Fatal(err)
	}
	b.wantNothing()
}

func TestReadersShareALock(t *testing.T) {
	b := newBench(t)
	var readers []*SharedLock
	for range 2 {
		l, err := NewSharedLock(t.Context(), b.dir)
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, l)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := NewLock(ctx, b.dir); !errors.Is(err, ErrLocked) {
		t.Errorf("NewLock beside readers: %v, want ErrLocked", err)
	}
	for _, l := range readers {
		if err := l.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	b.wantNothing()
}

func TestLockWaitsForItsTurn(t *testing.T) {
	b := newBench(t)
	l := b.lock()
	got := make(chan error)
	go func() {
		second, err := NewLock(t.Context(), b.dir)
		if err == nil {
			err = second.Unlock()
		}
		got <- err
	}()
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	b.wantNothing()
}

func TestManyLockersNeverMeet(t *testing.T) {
	b := newBench(t)
	inside := make(chan struct{}, 1)
	done := make(chan error)
	for range 8 {
		go func() { done <- lockOften(b.dir, inside) }()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	b.wantNothing()
}

// lockOften takes a lock whose file every Unlock removes.
func lockOften(dir string, inside chan struct{}) error {
	for range 20 {
		var l *Lock
		err := ErrLocked
		for errors.Is(err, ErrLocked) { // the others may be faster for long
			l, err = NewLock(context.Background(), dir)
		}
		if err != nil {
			return err
		}
		select {
		case inside <- struct{}{}:
		default:
			return errors.New("two hold the lock")
		}
		<-inside
		if err := l.Unlock(); err != nil {
			return err
		}
	}
	return nil
}

func TestAgentLock(t *testing.T) {
	b := newBench(t)
	if _, _, ok, err := AgentRunning(b.dir); ok || err != nil {
		t.Errorf("AgentRunning without an agent: %t, %v", ok, err)
	}
	pid, kill := b.holdElsewhere("agent")
	gotPID, digest, ok, err := AgentRunning(b.dir)
	if gotPID != pid || digest != "digest" || !ok || err != nil {
		t.Errorf("AgentRunning = %d, %q, %t, %v, want process %d", gotPID, digest, ok, err, pid)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := LockAgent(ctx, b.dir, ""); !errors.Is(err, ErrLocked) {
		t.Errorf("second agent: %v, want ErrLocked", err)
	}
	b.attach(two, nil) // commands are not kept away
	kill()
	if _, _, ok, err := AgentRunning(b.dir); ok || err != nil {
		t.Errorf("AgentRunning after its death: %t, %v", ok, err)
	}
	b.detach()
	b.wantNothing()
}

func TestAnAgentAdoptsTheLockOfAnother(t *testing.T) {
	b := newBench(t)
	old, err := LockAgent(t.Context(), b.dir, "old")
	if err != nil {
		t.Fatal(err)
	}
	another := func() (*os.File, error) {
		fd, err := unix.FcntlInt(old.File().Fd(), unix.F_DUPFD_CLOEXEC, 0)
		return os.NewFile(uintptr(fd), "handed over"), err
	}
	file, err := another()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := AdoptAgent(file, b.dir+"2", "new"); ok || err != nil {
		t.Errorf("a lock of another directory: %t, %v", ok, err)
	}
	l, ok, err := AdoptAgent(file, b.dir, "new")
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := old.Leave(); err != nil {
		t.Fatal(err)
	}
	if pid, digest, running, err := AgentRunning(b.dir); pid != os.Getpid() || digest != "new" || !running || err != nil {
		t.Errorf("process %d with %q, %t, %v", pid, digest, running, err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	b.wantNothing()
}
