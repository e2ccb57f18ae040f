package stage

import (
	"errors"
	"fmt"
	"os"
)

// Main is what a package whose tests raise stages calls in TestMain: it builds the
// programs, or takes those in the directory FAIRLEAD_PROGRAMS, runs the tests and
// returns the status to exit with. Without root it builds nothing: the tests skip,
// or say that they may not.
func Main(tests interface{ Run() int }, programs *Programs) (status int) {
	status, err := run(tests, programs)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return status
}

func run(tests interface{ Run() int }, programs *Programs) (status int, err error) {
	if os.Geteuid() != 0 {
		return tests.Run(), nil
	}
	if dir := os.Getenv("FAIRLEAD_PROGRAMS"); dir != "" {
		if *programs, err = In(dir); err != nil {
			return 1, err
		}
		return tests.Run(), nil
	}
	dir, err := os.MkdirTemp("", "fairlead-programs-*")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if *programs, err = Build(dir); err != nil {
		return 1, err
	}
	return tests.Run(), nil
}
