// Package supervise tells the service manager that started the process how it
// is, in the protocol of sd_notify(3). Without a manager it does nothing.
//
// It is not tied to systemd: whoever sets NOTIFY_SOCKET is the manager.
package supervise

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The states that [Notify] tells.
const (
	Ready    = "READY=1"    // it serves, or serves again after Reloading
	Stopping = "STOPPING=1" // it ends
	Watchdog = "WATCHDOG=1" // it lives
)

// Status returns the state that shows people a line of text.
func Status(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", "; ") }

// Reloading returns the state that says that a new configuration is being read. Ready
// ends it.
func Reloading() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond))
}

// Notify tells the manager states, at once. Where NOTIFY_SOCKET is not set there
// is none, and Notify returns nil.
func Notify(states ...string) error {
	c, err := dial()
	if c == nil || err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte(strings.Join(states, "\n"))); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}

// dial returns a socket to the manager, nil if there is none. A name that begins
// with @ is one of the abstract namespace.
func dial() (*net.UnixConn, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil, nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("notify service manager: %w", err)
	}
	return c, nil
}

// WatchdogInterval returns how often the manager is to be told [Watchdog]: twice
// in the time after which it takes the process for dead. 0 means that it does not
// ask for it, or not of this process.
func WatchdogInterval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 53)
	if err != nil {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}
