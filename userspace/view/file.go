package view

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// SystemDir is the run directory of agents that run as root.
const SystemDir = "/run/fairlead"

const (
	fileName = "status.json"
	tempName = ".status.json.new"
)

// DefaultDir returns the run directory of an agent that this user starts:
// [SystemDir] for root, else fairlead in $XDG_RUNTIME_DIR if that is set.
func DefaultDir() string {
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" && os.Geteuid() != 0 {
		return filepath.Join(d, "fairlead")
	}
	return SystemDir
}

// File returns the path of the view in a run directory.
func File(dir string) string { return filepath.Join(dir, fileName) }

// Write publishes v in dir, which it makes if it is missing, as the view of
// the calling process: readers see the old file or the new one, never a part.
// Only one process and goroutine at a time may write into a directory. A zero
// Written is set to now.
func Write(dir string, v View) error {
	var err error
	v.PID = os.Getpid()
	if v.Process, err = processStart(v.PID); err != nil {
		return fmt.Errorf("publish status: %w", err)
	}
	if v.Written.IsZero() {
		v.Written = time.Now()
	}
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("publish status: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("publish status: %w", err)
	}
	temp := filepath.Join(dir, tempName)
	// What a killed writer left may belong to another user, or be a link.
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("publish status: %w", err)
	}
	if err := writeFile(temp, append(data, '\n')); err != nil {
		return errors.Join(fmt.Errorf("publish status: %w", err), os.Remove(temp))
	}
	if err := os.Rename(temp, File(dir)); err != nil {
		return fmt.Errorf("publish status: %w", err)
	}
	return nil
}

// writeFile makes a file that everybody may read, whatever the umask.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Chmod(0o644), f.Close())
}

// Read returns the view in dir, which may be that of an agent that is gone:
// see [View.Alive]. Its error wraps [fs.ErrNotExist] if there is none.
func Read(dir string) (View, error) {
	var v View
	data, err := os.ReadFile(File(dir))
	if err != nil {
		return v, fmt.Errorf("read status: %w", err)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return View{}, fmt.Errorf("read status: %s: %w", File(dir), err)
	}
	return v, nil
}

// Remove takes the view out of dir, for an agent that ends. There may be none.
func Remove(dir string) error {
	err := os.Remove(File(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove status: %w", err)
	}
	return nil
}

// Alive reports whether the agent that wrote v still runs, as far as this
// process may see.
func (v View) Alive() bool {
	start, err := processStart(v.PID)
	return err == nil && start == v.Process
}

// Began returns when a process began, as far as this one may see.
func Began(pid int) (time.Time, error) {
	ticks, err := processStart(pid)
	if err != nil {
		return time.Time{}, err
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}, fmt.Errorf("read clock: %w", err)
	}
	const tick = 10 * time.Millisecond // for every user space of Linux
	return time.Now().Add(time.Duration(ticks)*tick - time.Duration(up.Nano())), nil
}

var errEnded = errors.New("process has ended")

// processStart returns when a process began, in clock ticks since boot; see
// proc_pid_stat(5).
func processStart(pid int) (uint64, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The second field, in parentheses, is a name that may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const state, start = 0, 19 // the third field and the 22nd
	if len(fields) <= start {
		return 0, fmt.Errorf("read %s: %d fields", path, len(fields))
	}
	if s := string(fields[state]); s == "Z" || s == "X" {
		return 0, errEnded
	}
	return strconv.ParseUint(string(fields[start]), 10, 64)
}
