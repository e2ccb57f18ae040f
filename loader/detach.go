package loader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Detach is the package's [Detach], for callers that do more under the lock.
func (l *Lock) Detach(ctx context.Context, interfaces []string) error {
	if _, err := l.mend(); err != nil {
		return fmt.Errorf("mend what a killed command left: %w", err)
	}
	there, err := exists(l.dir)
	if err != nil {
		return err
	}
	if !there {
		// A detach that was killed at its very end has left this.
		err := removeUnlocked(lockPath(l.dir, "agent"))
		return errors.Join(fmt.Errorf("detach %s: %w", l.dir, ErrNotAttached), err)
	}
	links, err := loadLinks(l.dir)
	if err != nil {
		return err
	}
	defer links.close()
	chosen := map[*pinnedLink]bool{}
	for _, name := range interfaces {
		k := links.named(name)
		if k == nil {
			return fmt.Errorf("detach %s: %w", name, ErrNotAttached)
		}
		chosen[k] = true
	}
	rest := false
	for _, k := range links {
		rest = rest || k.index != 0 && !chosen[k]
	}
	if !rest || len(interfaces) == 0 {
		return l.remove()
	}
	for k := range chosen {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.noteOut(k.info().Interface); err != nil {
			return err
		}
		if err := k.remove(); err != nil {
			return err
		}
	}
	return nil
}

// remove switches the instance off and removes all of it. It is out of sight
// after one rename, so a killed removal is finished by mend.
func (l *Lock) remove() error {
	if i, err := Open(l.dir); err == nil {
		i.SetMode(ModeOff)
		if err := i.Close(); err != nil {
			return err
		}
	}
	if err := l.step("switched off"); err != nil {
		return err
	}
	if err := os.Rename(l.dir, l.next()); err != nil {
		return err
	}
	if err := l.step("hidden"); err != nil {
		return err
	}
	if err := l.discard(); err != nil {
		return err
	}
	if l.dir == DefaultDir && ownedByMe(filepath.Dir(l.dir)) {
		_ = os.Remove(filepath.Dir(l.dir)) // only if it is empty
	}
	return removeUnlocked(lockPath(l.dir, "agent"))
}

// removeUnlocked removes the lock file that a killed agent left.
func removeUnlocked(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // an agent lives; it removes the file itself
	}
	return os.Remove(path)
}
