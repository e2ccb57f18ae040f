package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// firstListener is the number of the first descriptor that a process is given, as
// sd_listen_fds(3) has it.
const firstListener = 3

// Listeners returns the descriptors that the process was started with, by
// LISTEN_FDS and LISTEN_FDNAMES; their names are those of [Store]. The caller
// closes them. It clears the variables, so that nobody that the process starts
// takes them for its own.
func Listeners() (all []*os.File) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	n, err := strconv.ParseUint(count, 10, 16)
	if err != nil || pid != strconv.Itoa(os.Getpid()) {
		return nil
	}
	for i := range int(n) {
		fd, name := firstListener+i, "unknown"
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		unix.CloseOnExec(fd)
		all = append(all, os.NewFile(uintptr(fd), name))
	}
	return all
}

// Store has the manager keep a descriptor until [Remove]: it hands it to the next
// process that it starts for this service, so that what waits on a socket is not
// lost in between. A name has no colon and no control character, and at most 255
// characters; two descriptors do not have the same. The caller still closes its own.
func Store(name string, fd int) error {
	// Not polled: an error that waits on a UDP socket is no reason to drop it.
	return send("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, fd)
}

// send tells the manager something about a descriptor.
func send(text string, fd int) error {
	c, err := dial()
	if c == nil || err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(to uintptr) bool { // net takes no descriptors for a socket that is connected
		sent = unix.Sendmsg(int(to), []byte(text), unix.UnixRights(fd), nil, 0)
		return !errors.Is(sent, unix.EAGAIN) && !errors.Is(sent, unix.EINTR)
	})
	if err = errors.Join(err, sent); err != nil {
		return fmt.Errorf("hand service manager a descriptor: %w", err)
	}
	return nil
}

// Remove has the manager close what it keeps by a name. It may do so later: see [Await].
func Remove(name string) error { return Notify("FDSTOREREMOVE=1\nFDNAME=" + name) }

// Await waits until the manager has done what it was told so far, but no longer than
// limit (sd_notify_barrier(3)).
func Await(limit time.Duration) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = send("BARRIER=1", int(w.Fd()))
	w.Close()
	if err != nil {
		return err
	}
	if err := r.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // which means that all others have closed it
		return fmt.Errorf("wait for service manager: %w", err)
	}
	return nil
}
