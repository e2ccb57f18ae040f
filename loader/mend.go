package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// mend brings what a killed command left into order, and says what it did.
//
// A command builds in the next directory and takes effect by one rename, so
// there are three cases: an exchange that is to be finished, an instance that
// was never finished or was on its way out, or nothing.
func (l *Lock) mend() (string, error) {
	next, err := exists(l.next())
	if err != nil {
		return "", err
	}
	there, err := exists(l.dir)
	if err != nil {
		return "", err
	}
	if next || there {
		if err := l.checkOwner(there); err != nil {
			return "", err
		}
	}
	marked, err := exists(filepath.Join(l.next(), retiredMark))
	if err != nil {
		return "", err
	}
	if marked && there {
		if err := l.finish(); err != nil {
			return "", err
		}
		return "finished an upgrade that was interrupted", l.discard()
	}
	if there {
		err := os.Remove(filepath.Join(l.dir, retiredMark))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if !next {
		return "", nil
	}
	if there {
		// An upgrade that was being reverted has given links its program.
		if err := l.updateLinks(l.dir); err != nil {
			return "", err
		}
	}
	return "removed what an interrupted command had begun", l.discard()
}

// checkOwner makes sure that the directories to be changed are an instance's,
// before anything in them is.
func (l *Lock) checkOwner(there bool) error {
	on, err := onBPFFS(filepath.Dir(l.dir))
	if err != nil {
		return err
	}
	if !on {
		return fmt.Errorf("use pin directory %s: %w", l.dir, ErrNoBPFFS)
	}
	if !there {
		return nil
	}
	files, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name() == mapJournal {
			return nil // an instance appears and goes as a whole
		}
	}
	if len(files) > 0 {
		return fmt.Errorf("use pin directory %s: it holds pins of another program, such as %s", l.dir, files[0].Name())
	}
	return nil
}

// discard removes the next directory, and detaches the links that are pinned
// only there.
func (l *Lock) discard() error {
	links, err := loadLinks(l.next())
	if err != nil {
		return err
	}
	defer links.close()
	kept, err := loadLinks(l.dir)
	if err != nil {
		return err
	}
	defer kept.close()
	ids := kept.ids()
	for _, k := range links {
		if ids[k.id] {
			continue
		}
		if err := k.remove(); err != nil {
			return err
		}
		if err := l.step("removed link of " + k.iface); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(l.next()); err != nil {
		return err
	}
	return l.step("removed next")
}
