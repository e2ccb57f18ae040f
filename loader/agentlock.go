package loader

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// An AgentLock says for as long as it is held that an agent owns the instance.
// It does not keep commands away: they ask [AgentRunning].
type AgentLock struct {
	dir  string
	file *os.File
}

// LockAgent takes the agent's lock of the instance in dir, with the digest of
// the agent's configuration. If another agent holds it, the error wraps
// [ErrLocked] and names its process.
func LockAgent(ctx context.Context, dir, configDigest string) (*AgentLock, error) {
	dir, file, err := acquire(ctx, dir, "agent", unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	l := &AgentLock{dir, file}
	if err := l.SetDigest(configDigest); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return l, nil
}

// AdoptAgent is [LockAgent] with a lock that another process has taken and handed
// over, by a descriptor that now belongs to it. ok is false if that is not the lock
// of the instance in dir.
func AdoptAgent(file *os.File, dir, configDigest string) (l *AgentLock, ok bool, err error) {
	if dir, err = cleanDir(dir); err != nil {
		return nil, false, err
	}
	path := lockPath(dir, "agent")
	if !isAt(file, path) {
		return nil, false, nil
	}
	// By its name, which release needs.
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, false, err
	}
	file.Close()
	l = &AgentLock{dir, os.NewFile(uintptr(fd), path)}
	if err := l.SetDigest(configDigest); err != nil {
		return nil, false, errors.Join(err, l.file.Close())
	}
	return l, true, nil
}

// File returns the lock for another process, to be adopted there. It must not be
// closed.
func (l *AgentLock) File() *os.File { return l.file }

// Leave lets go of a lock that another process has adopted.
func (l *AgentLock) Leave() error { return l.file.Close() }

// SetDigest says that the agent has taken another configuration.
func (l *AgentLock) SetDigest(configDigest string) error { return sign(l.file, configDigest) }

// Unlock releases the lock.
func (l *AgentLock) Unlock() error { return release(l.dir, l.file, true) }

// AgentRunning returns the process and the configuration digest of the agent
// that owns the instance in dir; ok is false if there is none.
func AgentRunning(dir string) (pid int, configDigest string, ok bool, err error) {
	dir, err = cleanDir(dir)
	if err != nil {
		return 0, "", false, err
	}
	path := lockPath(dir, "agent")
	there, err := exists(path)
	if err != nil || !there {
		return 0, "", false, err
	}
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, "", false, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return 0, "", false, ErrPrivileges
	}
	if err != nil {
		return 0, "", false, err
	}
	defer file.Close()
	err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		return 0, "", false, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, "", false, err
	}
	pid, configDigest = signature(file)
	return pid, configDigest, true, nil
}
