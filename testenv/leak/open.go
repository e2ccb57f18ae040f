package leak

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long what was used may take to go away.
var patience = time.Minute

// The runtime keeps two descriptors for its poller from the first use on.
func init() {
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
}

// A Snapshot is what a process had open at one moment: its descriptors, and what
// it had mapped of BPF objects and temporary files.
type Snapshot struct {
	pid  string
	open map[string]bool
}

// Left is an error that says what a process has open that it did not have before.
type Left struct {
	// Things are descriptors and mappings, each by its number and what it is of.
	Things []string
}

func (l *Left) Error() string {
	return fmt.Sprintf("%d more things are open: %s", len(l.Things), strings.Join(l.Things, "; "))
}

// Take looks at a process, by its number; 0 is this one.
func Take(pid int) (Snapshot, error) {
	s := Snapshot{pid: "self"}
	if pid != 0 {
		s.pid = strconv.Itoa(pid)
	}
	var err error
	s.open, err = s.look()
	return s, err
}

// Len returns how many things were open.
func (s Snapshot) Len() int { return len(s.open) }

// Await waits until the process has nothing open that it had not when the snapshot
// was taken. If it still has after ten seconds, the error is a [*Left].
func (s Snapshot) Await() error {
	defer forgetNothing()()
	return within(patience, func() error {
		now, err := s.look()
		if err != nil {
			return err
		}
		maps.DeleteFunc(now, func(thing string, _ bool) bool { return s.open[thing] })
		if len(now) == 0 {
			return nil
		}
		things := slices.Sorted(maps.Keys(now))
		if s.pid != "self" {
			return &Left{things}
		}
		// Collecting any earlier would close files that somebody forgot.
		if lasting := slices.DeleteFunc(slices.Clone(things), isCollected); len(lasting) > 0 {
			return &Left{lasting}
		}
		runtime.GC()
		return &Left{things}
	})
}

// netPipe is the size in bytes that package net gives the pipes that it keeps for
// splicing. No other pipe of the project has it; usual are 64 KiB.
const netPipe = 1 << 20

// forgetNothing keeps the garbage of looking for leaks from having forgotten files
// closed, until undo is called.
func forgetNothing() (undo func()) {
	percent := debug.SetGCPercent(-1)
	return func() { debug.SetGCPercent(percent) }
}

// isCollected says that a thing of this process lasts until the next garbage
// collection: a view of a map, or a pipe that package net keeps for splicing.
func isCollected(thing string) bool {
	var fd int
	var kind string
	if _, err := fmt.Sscanf(thing, "descriptor %d: %s", &fd, &kind); err != nil || !strings.HasPrefix(kind, "pipe:") {
		return strings.HasPrefix(thing, "mapping ")
	}
	size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	return err == nil && size == netPipe
}

// within tries until it succeeds or the time is up, and returns the last error.
func within(limit time.Duration, try func() error) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if err := try(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func (s Snapshot) look() (map[string]bool, error) {
	open := map[string]bool{}
	dir := filepath.Join("/proc", s.pid, "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list descriptors: %w", err)
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) || isList(target) {
			continue // closed meanwhile, or by which somebody lists
		}
		if err != nil {
			return nil, fmt.Errorf("read descriptor: %w", err)
		}
		open[fmt.Sprintf("descriptor %s: %s%s", e.Name(), target, s.objectOf(e.Name(), target))] = true
	}
	return open, s.lookAtMappings(open)
}

// isList reports whether a path is a process's list of descriptors or mappings.
func isList(path string) bool {
	name := filepath.Base(path)
	return strings.HasPrefix(path, "/proc/") && (name == "fd" || name == "maps")
}

// objectOf returns the number of the BPF object that a descriptor is of, with a
// space in front, or nothing.
func (s Snapshot) objectOf(fd, target string) string {
	if !strings.HasPrefix(target, "anon_inode:bpf") {
		return ""
	}
	text, _ := os.ReadFile(filepath.Join("/proc", s.pid, "fdinfo", fd)) // it may be closed by now
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "map_id", "prog_id", "link_id":
			return " " + key + " " + strings.TrimSpace(value)
		}
	}
	return ""
}

// lookAtMappings adds those of BPF objects and of temporary files.
func (s Snapshot) lookAtMappings(open map[string]bool) error {
	f, err := os.Open(filepath.Join("/proc", s.pid, "maps"))
	if err != nil {
		return fmt.Errorf("list mappings: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 6 {
			continue
		}
		if of := words[5]; strings.HasPrefix(of, "anon_inode:") || strings.HasPrefix(of, os.TempDir()+"/") {
			open[fmt.Sprintf("mapping %s: %s", words[0], of)] = true
		}
	}
	return lines.Err()
}

// describe adds a socket's addresses to a thing of this process.
func describe(thing string) string {
	var fd int
	var kind string
	if _, err := fmt.Sscanf(thing, "descriptor %d: %s", &fd, &kind); err != nil || !strings.HasPrefix(kind, "socket:") {
		return thing
	}
	for _, side := range []struct {
		name string
		of   func(int) (unix.Sockaddr, error)
	}{{"from", unix.Getsockname}, {"to", unix.Getpeername}} {
		switch a, _ := side.of(fd); a := a.(type) {
		case *unix.SockaddrInet4:
			thing += fmt.Sprintf(" %s %d.%d.%d.%d:%d", side.name, a.Addr[0], a.Addr[1], a.Addr[2], a.Addr[3], a.Port)
		case *unix.SockaddrInet6:
			thing += fmt.Sprintf(" %s [%x]:%d", side.name, a.Addr, a.Port)
		case *unix.SockaddrUnix:
			thing += fmt.Sprintf(" %s %q", side.name, a.Name)
		}
	}
	return thing
}
