package accesslog

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"fairlead/userspace/logfile"
)

// Lines are collected until there are so many bytes of them, or so long.
const (
	flushAt    = 64 << 10
	flushEvery = 500 * time.Millisecond
)

// A Log is a file of lines. It is safe for concurrent use.
type Log struct {
	file   *logfile.File
	format Format
	log    *slog.Logger

	mu    sync.Mutex
	lines []byte
	said  bool // that it cannot write
}

// Open opens a log, at the end of what is there; log is told what goes wrong later.
func Open(path string, format Format, log *slog.Logger) (*Log, error) {
	f, err := logfile.Open(path)
	if err != nil {
		return nil, err
	}
	return &Log{file: f, format: format, log: log}, nil
}

// Add adds a line.
func (l *Log) Add(r *Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = l.format.appendTo(l.lines, r)
	if len(l.lines) >= flushAt {
		l.flush()
	}
}

// Run writes lines that wait until ctx is done.
func (l *Log) Run(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.mu.Lock()
			l.flush()
			l.mu.Unlock()
		}
	}
}

// Reopen writes what waits to the old file and makes the one that has the path now
// the one for all that follows. If that fails the old one stays.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	return l.file.Reopen()
}

// Close writes what waits and closes the file. Nothing may be added after it.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	return l.file.Close()
}

// flush writes what waits. Lines that cannot be written are lost: a full disk is not
// to take the memory too. The caller holds the lock.
func (l *Log) flush() {
	if len(l.lines) == 0 {
		return
	}
	_, err := l.file.Write(l.lines)
	l.lines = l.lines[:0]
	if err != nil && !l.said {
		l.log.Error("write access log", "err", err)
	}
	l.said = err != nil
}
