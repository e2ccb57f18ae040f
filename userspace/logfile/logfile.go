// Package logfile writes logs to files that others rename: whoever rotates them
// moves a file away and asks for Reopen.
package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// mode lets the group of the process read logs, and nobody else.
const mode = 0o640

// patience is how long a line waits for who reads a pipe or a terminal. While that one
// takes nothing, those that follow wait no longer than impatience.
const (
	patience   = time.Second
	impatience = time.Millisecond
)

// A File is an open log. It is safe for concurrent use.
type File struct {
	path string
	mu   sync.Mutex
	f    *os.File
	rest []byte // of a line that was cut
	full bool   // nobody has taken any of what came last
}

// ErrKind says that there is what may keep who writes to it waiting.
var ErrKind = errors.New("it is neither a regular file nor a character device: name a file")

// Check returns why no log can be at a path, and changes nothing. The error is a
// [fs.PathError]: of what is in the way, and then it wraps [ErrKind], or of a directory
// that is not there. Who may write there is not looked at: that may be another user.
func Check(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Stat(filepath.Dir(path))
	} else if err == nil {
		err = checkKind(info)
	}
	if of := (*fs.PathError)(nil); errors.As(err, &of) {
		err = of.Err
	}
	if err == nil || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return &fs.PathError{Op: "open", Path: path, Err: err}
}

// checkKind looks at what a log is to be. The process's own streams may be pipes: who
// reads them is there.
func checkKind(info fs.FileInfo) error {
	if info.Mode().IsRegular() || info.Mode()&fs.ModeCharDevice != 0 {
		return nil
	}
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		own, err := f.Stat()
		if err == nil && info.Mode()&fs.ModeNamedPipe != 0 && os.SameFile(own, info) {
			return nil
		}
	}
	return ErrKind
}

// Open opens a log, at the end of what is there, and does not wait for anybody. Its
// error says what to open.
func Open(path string) (*File, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	return &File{path: path, f: f}, nil
}

func open(path string) (*os.File, error) {
	err := Check(path)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	// Something else may be there by now. Who writes waits all the same, for as long as
	// Write has it: the runtime sees to that.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, mode)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	info, err := f.Stat()
	if err == nil {
		err = checkKind(info)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log: %s: %w", path, err), f.Close())
	}
	return f, nil
}

// Write writes whole lines, all of them to one file. Its error is
// [os.ErrDeadlineExceeded] if that is a pipe, or a terminal, whose reader takes nothing
// for a second: then the lines that are left are lost.
func (l *File) Write(lines []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := patience
	if l.full {
		wait = impatience
	}
	_ = l.f.SetWriteDeadline(time.Now().Add(wait)) // a file never waits, and has none
	before := 0
	if len(l.rest) > 0 {
		var err error
		before, err = l.f.Write(l.rest)
		if l.rest = l.rest[before:]; err != nil {
			l.full = before == 0
			return 0, err
		}
	}
	n, err := l.f.Write(lines)
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if l.full = late && before+n == 0; late && n > 0 && lines[n-1] != '\n' {
		line, _, _ := bytes.Cut(lines[n:], []byte("\n"))
		l.rest = append(bytes.Clone(line), '\n')
	}
	return n, err
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
