package loader

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// RunDir holds the lock files. They are not beside the pins, because a BPF
// file system holds no regular files.
const RunDir = "/run/fairlead"

// lockWait is how long a command waits for the lock of another one.
const lockWait = 5 * time.Second

// A Lock keeps other commands away from the instance of one directory. What
// changes an instance is a method of its Lock.
//
// It is a flock, so the kernel releases it when the process dies. Not safe for
// concurrent use.
type Lock struct {
	dir  string
	file *os.File
	// step is called after every step that a crash may follow; tests kill the
	// process or fail there.
	step func(name string) error
	// These read the objects to load; tests alter them.
	spec, spec6, spec46 func() (*ebpf.CollectionSpec, error)
}

// NewLock takes the lock of the instance in dir ("" means [DefaultDir]),
// whether or not there is an instance. It waits up to 5 s, or until ctx is
// done, then returns an error that wraps [ErrLocked] and names the holder. The
// error wraps [ErrPrivileges] or [ErrKernel] where nothing can be loaded.
func NewLock(ctx context.Context, dir string) (*Lock, error) {
	if err := checkHost(); err != nil {
		return nil, err
	}
	dir, file, err := acquire(ctx, dir, "lock", unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	if err := sign(file, filepath.Base(os.Args[0])); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Lock{dir: dir, file: file, step: func(string) error { return nil }, spec: LoadLB, spec6: LoadLB6, spec46: LoadLB46}, nil
}

// Unlock releases the lock. It removes the lock file if no instance is left.
func (l *Lock) Unlock() error { return errors.Join(give(l.dir), release(l.dir, l.file, true)) }

// A SharedLock lets others read, and keeps commands that change away.
type SharedLock struct {
	dir  string
	file *os.File
}

// NewSharedLock is [NewLock] for those who only read.
func NewSharedLock(ctx context.Context, dir string) (*SharedLock, error) {
	dir, file, err := acquire(ctx, dir, "lock", unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	return &SharedLock{dir, file}, nil
}

// Unlock releases the lock.
func (l *SharedLock) Unlock() error { return release(l.dir, l.file, false) }

// acquire opens the lock file of a kind and takes a flock on it.
func acquire(ctx context.Context, dir, kind string, how int) (string, *os.File, error) {
	dir, err := cleanDir(dir)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	path := lockPath(dir, kind)
	for {
		file, err := tryLock(path, how)
		if err == nil {
			return dir, file, nil
		}
		if !errors.Is(err, ErrLocked) {
			return "", nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		select {
		case <-ctx.Done():
			return "", nil, fmt.Errorf("lock %s: %w", dir, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tryLock takes a flock on path, which it creates, or returns an error that
// wraps [ErrLocked].
func tryLock(path string, how int) (*os.File, error) {
	for {
		err := os.MkdirAll(RunDir, 0o755)
		var file *os.File
		if err == nil {
			// The directory may be another user's, who could have put a link there.
			file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) && !blocked(RunDir) {
			continue // another command has just removed the directory
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, ErrPrivileges
		}
		if err != nil {
			return nil, err
		}
		err = errors.Join(give(path), unix.Flock(int(file.Fd()), how|unix.LOCK_NB))
		if err == nil && isAt(file, path) {
			return file, nil
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w%s", ErrLocked, holder(file))
		}
		file.Close()
		if err != nil {
			return nil, err
		}
		// The holder removed the file before it let go of it.
	}
}

// blocked reports whether something stands at path that is no directory.
func blocked(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && !info.IsDir()
}

// isAt reports whether path still leads to file.
func isAt(file *os.File, path string) bool {
	a, err := file.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// release lets go of a lock file; without an instance in dir it removes it.
func release(dir string, file *os.File, signed bool) error {
	var errs []error
	if there, err := exists(dir); err == nil && !there {
		// A reader may hold it with others; the last one removes it.
		if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			errs = append(errs, os.Remove(file.Name()))
			_ = os.Remove(RunDir) // only if that was the last file
		}
	} else if signed {
		errs = append(errs, file.Truncate(0))
	}
	return errors.Join(append(errs, file.Close())...)
}

// sign writes who holds the lock file, and a word of its own, into it.
func sign(file *os.File, word string) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt(fmt.Appendf(nil, "%d %s\n", os.Getpid(), word), 0)
	return err
}

// signature reads what sign wrote; pid is 0 if there is nothing.
func signature(file *os.File) (pid int, word string) {
	var b [4096]byte
	n, _ := file.ReadAt(b[:], 0)
	first, word, _ := strings.Cut(strings.TrimSpace(string(b[:n])), " ")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return 0, ""
	}
	return pid, word
}

// holder describes who holds the file, "" if that cannot be told.
func holder(file *os.File) string {
	pid, word := signature(file)
	if pid == 0 || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return ""
	}
	if strings.HasSuffix(file.Name(), ".agent") {
		word = "an agent" // its word is a digest
	}
	return fmt.Sprintf(": process %d (%s)", pid, word)
}

// lockPath returns the lock file of a kind for a cleaned directory.
func lockPath(dir, kind string) string {
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(RunDir, fmt.Sprintf("%x.%s", sum[:8], kind))
}
