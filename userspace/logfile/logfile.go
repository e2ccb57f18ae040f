// Package logfile writes logs to files that others rename: whoever rotates them
// moves a file away and asks for Reopen.
package logfile

import (
	"fmt"
	"os"
	"sync"
)

// mode lets the group of the process read logs, and nobody else.
const mode = 0o640

// A File is an open log. It is safe for concurrent use.
type File struct {
	path string
	mu   sync.Mutex
	f    *os.File
}

// Open opens a log, at the end of what is there. Its error says what to open.
func Open(path string) (*File, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	return &File{path: path, f: f}, nil
}

func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, mode)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

// Write writes lines, all of them to one file.
func (l *File) Write(lines []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(lines)
}

// Reopen makes the file that has the path now the one that later lines go to. If
// that fails they go on to the old one.
func (l *File) Reopen() error {
	f, err := open(l.path)
	if err != nil {
		return err
	}
	l.mu.Lock()
	old := l.f
	l.f = f
	l.mu.Unlock()
	return old.Close() // nobody writes to it any more
}

// Close closes the log.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
