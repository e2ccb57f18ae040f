package leak

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// An object is a map, program or link in the kernel that a test had pinned.
type object struct {
	kind, pin, test string
	id              uint32
}

// noted are the objects that must go.
var noted struct {
	sync.Mutex
	all []object
}

// Note has [Check] see to it that the kernel has nothing any more of what is pinned
// below a directory of a BPF file system now: when the test is over, nobody may
// hold it. What cannot be looked at ends the test.
func Note(tb interface {
	Name() string
	Helper()
	Fatalf(format string, args ...any)
}, dir string) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		// No pin has a dot in its name; files of the kernel's own do.
		if errors.Is(err, fs.ErrNotExist) || err == nil && (e.IsDir() || strings.Contains(e.Name(), ".")) {
			return nil
		}
		if err != nil {
			return err
		}
		o, err := pinned(path)
		if err != nil {
			return fmt.Errorf("look at pin %s: %w", path, err)
		}
		o.pin, o.test = e.Name(), tb.Name()
		noted.Lock()
		defer noted.Unlock()
		noted.all = append(noted.all, o)
		return nil
	})
	if err != nil {
		tb.Fatalf("note what is pinned: %v", err)
	}
}

// pinned returns kind and number of what is pinned at a path.
func pinned(path string) (object, error) {
	if m, err := ebpf.LoadPinnedMap(path, nil); err == nil {
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			return object{}, err
		}
		id, _ := info.ID()
		return object{kind: "map", id: uint32(id)}, nil
	}
	if p, err := ebpf.LoadPinnedProgram(path, nil); err == nil {
		defer p.Close()
		info, err := p.Info()
		if err != nil {
			return object{}, err
		}
		id, _ := info.ID()
		return object{kind: "program", id: uint32(id)}, nil
	}
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return object{}, err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return object{}, err
	}
	return object{kind: "link", id: uint32(info.ID)}, nil
}

// isThere reports whether the kernel still has it. Numbers are not given twice. It opens
// nothing: where a program array loses its last user while it is still being emptied for
// having lost it before, Linux 6.18 keeps it for ever (prog_array_map_clear).
func (o object) isThere() (bool, error) {
	var next uint32
	var err error
	switch o.kind {
	case "map":
		var id ebpf.MapID
		id, err = ebpf.MapGetNextID(ebpf.MapID(o.id - 1))
		next = uint32(id)
	case "program":
		var id ebpf.ProgramID
		id, err = ebpf.ProgramGetNextID(ebpf.ProgramID(o.id - 1))
		next = uint32(id)
	default:
		return o.isLink()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s %d: %w", o.kind, o.id, err)
	}
	return next == o.id, nil
}

func (o object) isLink() (bool, error) {
	held, err := link.NewFromID(link.ID(o.id))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s %d: %w", o.kind, o.id, err)
	}
	return true, held.Close()
}

// takeNoted returns what was noted, and forgets it.
func takeNoted() []object {
	noted.Lock()
	defer noted.Unlock()
	all := noted.all
	noted.all = nil
	return all
}

// awaitNoted waits until the kernel has nothing of what was noted, and returns
// what it still has then.
func awaitNoted() (faults []string) {
	all := takeNoted()
	_ = within(patience, func() error {
		faults = nil
		for _, o := range all {
			if there, err := o.isThere(); err != nil {
				faults = append(faults, err.Error())
			} else if there {
				faults = append(faults, fmt.Sprintf("%s left %s %d in the kernel, which was pinned as %s", o.test, o.kind, o.id, o.pin))
			}
		}
		if len(faults) == 0 {
			return nil
		}
		runtime.GC() // a view of a map in memory lasts until then
		return errors.New(strings.Join(faults, "; "))
	})
	return faults
}
