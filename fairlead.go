// Package fairlead runs the balancer as a part of another program.
//
// [Run] is all that it takes. Who wants more, such as a log of its own, calls
// [fairlead/userspace/daemon.Run]. The module's path has no host: a program that
// uses it says in its go.mod where the source is, by a replace directive.
package fairlead

import (
	"context"
	"log/slog"
	"os"
	"time"

	"fairlead/userspace/daemon"
)

// grace is how long connections may go on at the end, as fairlead run has it.
const grace = 10 * time.Second

// Run serves what the configuration file at path says until ctx is done; then it
// returns nil. It logs to standard error. Like fairlead run it reads the file again
// on SIGHUP, needs root for XDP but not for services in user space, and can run
// once at a time. Its errors are those of [fairlead/userspace/daemon.Run].
func Run(ctx context.Context, path string) error {
	return daemon.Run(ctx, daemon.Options{
		Config: path, Grace: grace, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
}
