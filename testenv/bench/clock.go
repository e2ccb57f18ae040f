package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

var errNoSoftirqThread = errors.New("no such thread")

// cpuTime reads one of the clocks that stand still while others run.
func cpuTime(clock int32) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("read clock of CPU time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// clockOf returns the clock of a process's CPU time, as clock_getcpuclockid(3) does.
func clockOf(pid int) int32 { return int32(^pid<<3 | 2) }

// softirqTime returns how long the thread has run to which a CPU leaves
// softirqs that are too many.
func softirqTime(cpu int) (time.Duration, error) {
	name := fmt.Sprintf("ksoftirqd/%d\n", cpu)
	paths, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0, err
	}
	for _, p := range paths {
		// A process may have ended meanwhile.
		if comm, err := os.ReadFile(p); err != nil || string(comm) != name {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(p), "schedstat"))
		if err != nil {
			return 0, fmt.Errorf("read time of softirqs: %w", err)
		}
		var ns int64
		if _, err := fmt.Sscan(string(stat), &ns); err != nil {
			return 0, fmt.Errorf("read time of softirqs: %w", err)
		}
		return time.Duration(ns), nil
	}
	return 0, fmt.Errorf("find ksoftirqd of CPU %d: %w", cpu, errNoSoftirqThread)
}
