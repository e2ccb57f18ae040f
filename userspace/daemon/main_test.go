package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/internal/crashpoint"
	"fairlead/testenv/leak"
	"fairlead/userspace/control"
	"fairlead/userspace/datapath"
)

// childOptions is the environment variable that makes the test binary an
// agent: an agent has to be a process of its own to live in a namespace.
const childOptions = "FAIRLEAD_DAEMON_CHILD"

func TestMain(m *testing.M) {
	beat, retryAfter = beat/4, beat/4
	if o := os.Getenv(childOptions); o != "" {
		crash = crashAsTold
		if err := playAgent(o); err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	_, _ = datapath.Now() // whose program stays; without root there is none
	// It is one for all of the process, and never ends.
	limiter := goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop")
	os.Exit(leak.Each(m, limiter).Run())
}

// crashFile is the environment variable that names the file that says who is to be
// killed in the middle of a handover, and when; or to hold there, while there is the file
// with heldSuffix.
const crashFile = "FAIRLEAD_DAEMON_CRASH"

const heldSuffix = ".held"

func crashAsTold(step string, predecessor int) {
	text, err := os.ReadFile(os.Getenv(crashFile))
	if err != nil {
		return // nobody
	}
	switch who, when, _ := strings.Cut(string(text), " "); {
	case when != step:
	case who == "hold":
		held := os.Getenv(crashFile) + heldSuffix
		_ = os.Rename(os.Getenv(crashFile), held)
		for os.Getppid() == predecessor {
			if _, err := os.Stat(held); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	case who == "self":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	default:
		_ = syscall.Kill(predecessor, syscall.SIGKILL) // it may have ended
		for os.Getppid() == predecessor {
			time.Sleep(time.Millisecond)
		}
	}
}

// crashAt is the environment variable that says at which step of its first change an
// agent kills itself.
const crashAt = "FAIRLEAD_CRASH_AT"

// changing says that a change has come.
var changing atomic.Bool

// armCrash has the process end as crashAt says.
func armCrash() {
	at, err := strconv.ParseInt(os.Getenv(crashAt), 10, 64)
	if err != nil {
		return
	}
	var steps atomic.Int64
	crashpoint.Set(func() {
		if changing.Load() && steps.Add(1) == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
}

// playAgent runs an agent until SIGTERM, and then looks for what it has
// forgotten: goroutines, descriptors, mappings.
func playAgent(options string) error {
	var o Options
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		return err
	}
	_, _ = datapath.Now() // whose program stays; without root there is none
	before := goleak.IgnoreCurrent()
	open, err := leak.Take(0)
	if err != nil {
		return err
	}
	err = func() error {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		var served func()
		o.ready = func(p control.Plane) {
			var err error
			if served, err = serveRemote(o.RunDir, p); err != nil {
				panic(err)
			}
		}
		defer func() {
			if served != nil {
				served()
			}
		}()
		armCrash()
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		return Run(ctx, o)
	}()
	if err != nil {
		return err
	}
	return errors.Join(goleak.Find(before, goleak.IgnoreTopFunction("os/signal.loop")), open.Await())
}
