// Package sandbox takes from a running process what it does not need: files, by
// Landlock, and system calls, by a filter.
//
// It is for a process that has started and lives on: what it has open stays open,
// and what it starts is in the same sandbox. It says nothing about the network: an
// agent listens and connects wherever its next configuration says.
package sandbox

import (
	"errors"
	"fmt"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// ErrKernel says that the kernel has not what is asked for.
var ErrKernel = errors.New("this kernel has it not")

// Paths say what is left. What does not exist is passed over.
type Paths struct {
	// Read are files and directories, with all below, that may be read and executed.
	Read []string
	// Write are directories below which files may be made, written, renamed
	// and removed, and files that may be written.
	Write []string
}

// Enter puts the process and all that it starts into the sandbox, for good. An error
// names the part that does not hold; the other one does. It wraps [ErrKernel] if the
// kernel lacks one.
func Enter(p Paths) error {
	files := restrictFiles(p)
	if files != nil {
		files = fmt.Errorf("landlock: %w", files)
	}
	calls := restrictCalls()
	if calls != nil {
		calls = fmt.Errorf("filter of system calls: %w", calls)
	}
	return errors.Join(files, calls)
}

func restrictFiles(p Paths) error {
	// Renaming between directories, which every version refuses unless it is allowed,
	// can be allowed since the second.
	if version, err := ll.LandlockGetABIVersion(); err != nil || version < 2 {
		return ErrKernel
	}
	read, write := split(p.Read), split(p.Write)
	return landlock.V5.BestEffort().RestrictPaths(
		landlock.RODirs(read.directories...).IgnoreIfMissing(),
		landlock.ROFiles(read.files...).IgnoreIfMissing(),
		landlock.RWDirs(write.directories...).WithRefer().IgnoreIfMissing(),
		landlock.RWFiles(write.files...).IgnoreIfMissing(),
	)
}

type kinds struct{ directories, files []string }

// split sorts paths by what they lead to. Those that cannot be reached are not needed.
func split(paths []string) (k kinds) {
	for _, path := range paths {
		switch info, err := os.Stat(path); {
		case err != nil:
		case info.IsDir():
			k.directories = append(k.directories, path)
		default:
			k.files = append(k.files, path)
		}
	}
	return k
}
