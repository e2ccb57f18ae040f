// Package regular opens files that somebody else has named. A pipe, whose writer may
// never come, or a device is an error at once, and does nothing.
package regular

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrKind says that there is something else than a regular file.
var ErrKind = errors.New("it is no regular file: name one")

// Open opens the file at path for reading. The error is a [fs.PathError], and wraps
// [ErrKind] if it is of another kind.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrKind}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Read returns what the file at path has. Errors are those of [Open], or of reading.
func Read(path string) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}
