package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"

	"fairlead/internal/regular"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 64 << 20

// ReadFile reads a configuration file, or a pipe that one comes from. Devices, and
// what is larger than 64 MiB, are errors.
func ReadFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeDevice != 0 {
		return nil, fmt.Errorf("%s is a device: name a file", name)
	}
	return readAll(f)
}

// readIncluded is [ReadFile] for a file that another one names: the change of a running
// agent may be what names it, so a pipe is an error, too.
func readIncluded(name string) ([]byte, error) {
	f, err := regular.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

func readAll(f *os.File) ([]byte, error) {
	data, err := limited(f, maxFile)
	if errors.Is(err, errLarge) {
		return nil, fmt.Errorf("%s has more than 64 MiB: name a smaller file", f.Name())
	}
	return data, err
}

// errLarge is for a file that has more than it may.
var errLarge = errors.New("too large")

// limited reads the rest of f, which is [errLarge] if it has more than limit bytes.
func limited(f *os.File, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, errLarge
	}
	return data, err
}

// program finds what is wrong with the name of a program that is to be run.
func (r *reader) program(v value, name string) {
	if !r.look {
		return
	}
	_, err := exec.LookPath(name)
	if missing := (*exec.Error)(nil); errors.As(err, &missing) {
		err = missing.Err
	}
	if err != nil {
		r.fault(v, "%s cannot be run: %v: install it, or name another program", quote(name), err)
	}
}

// readable finds what is wrong with a file that is to be read later, and again.
func (r *reader) readable(v value, name string) {
	if !r.look {
		return
	}
	f, err := regular.Open(name)
	if errors.Is(err, regular.ErrKind) {
		r.fault(v, "is no regular file: name one")
		return
	}
	if err != nil {
		r.fault(v, "cannot be read: %v", err)
		return
	}
	f.Close()
}
