package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// outPrefix begins the names of directories, beside the links, that remember
// which interfaces a command has taken out: an agent must not take them for lost.
const outPrefix = "out-"

func outMark(dir, iface string) string {
	return filepath.Join(dir, outPrefix+escapePin.Replace(iface))
}

// noteOut remembers that an interface is being taken out.
func (l *Lock) noteOut(iface string) error {
	if err := os.Mkdir(outMark(l.dir, iface), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("note that %s is taken out: %w", iface, err)
	}
	return nil
}

// forgetOut ends what noteOut began.
func (l *Lock) forgetOut(iface string) error {
	if err := os.Remove(outMark(l.dir, iface)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget that %s was taken out: %w", iface, err)
	}
	return nil
}

// TakenOut returns the interfaces that [Detach] has taken out, and that nobody has
// attached since, by name. A new directory, which an upgrade makes, knows none.
func (i *Instance) TakenOut() ([]string, error) {
	files, err := os.ReadDir(i.dir)
	if err != nil {
		return nil, fmt.Errorf("list interfaces taken out of %s: %w", i.dir, err)
	}
	var names []string
	for _, f := range files {
		if name, ok := strings.CutPrefix(f.Name(), outPrefix); ok {
			names = append(names, unescapePin.Replace(name))
		}
	}
	return names, nil
}
