package loader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/testenv/leak"
)

// Environment of a test binary that plays another process.
const (
	childRole = "FAIRLEAD_LOADER_CHILD"      // what to do
	childDir  = "FAIRLEAD_LOADER_CHILD_DIR"  // pin directory
	childStep = "FAIRLEAD_LOADER_CHILD_STEP" // die after that many steps
)

func TestMain(m *testing.M) {
	role := os.Getenv(childRole)
	if role == "" {
		os.Exit(leak.Each(m).Run())
	}
	if err := playChild(role, os.Getenv(childDir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// playChild does what a test wants another process to do.
func playChild(role, dir string) error {
	ctx := context.Background()
	if role == "agent" {
		if _, err := LockAgent(ctx, dir, "digest"); err != nil {
			return err
		}
		return waitToBeKilled()
	}
	l, err := NewLock(ctx, dir)
	if err != nil {
		return err
	}
	l.spec, l.spec6 = passObject, passObject6
	if role == "lock" {
		return waitToBeKilled()
	}
	if err := l.dieAfter(os.Getenv(childStep)); err != nil {
		return err
	}
	switch role {
	case "attach", "grow", "revert":
		if role == "revert" {
			l.failBefore("carried")
		}
		i, _, err := l.Attach(ctx, roleOptions(role))
		if errors.Is(err, errInjected) {
			return l.Unlock()
		}
		if err != nil {
			return err
		}
		if err := i.Close(); err != nil {
			return err
		}
	case "detach":
		if err := l.Detach(ctx, nil); err != nil {
			return err
		}
	}
	return l.Unlock()
}

// waitToBeKilled says that it is ready, then waits.
func waitToBeKilled() error {
	fmt.Println("ready")
	return unix.Pause()
}

// dieAfter kills the process, as nothing can prevent, after n steps.
func (l *Lock) dieAfter(n string) error {
	left, err := strconv.Atoi(n)
	if err != nil {
		return err
	}
	l.step = func(name string) error {
		if left--; left >= 0 {
			return nil
		}
		fmt.Fprintln(os.Stderr, "killed after:", name)
		return unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	return nil
}

// failBefore makes one step fail; those after it are counted for dieAfter.
func (l *Lock) failBefore(name string) {
	die, failed := l.step, false
	l.step = func(step string) error {
		if failed {
			return die(step)
		}
		if failed = step == name; failed {
			return errInjected
		}
		return nil
	}
}

// roleOptions are what a child attaches with.
func roleOptions(role string) Options {
	o := Options{Interfaces: []string{"d0", "d1"}, Sizes: Sizes{Services: 16}}
	if role == "grow" || role == "revert" {
		o.Sizes.Services, o.Sizes.Flows6 = 100, 100
		o.Interfaces = append(o.Interfaces, "d2")
	}
	return o
}
