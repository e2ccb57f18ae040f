package install

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"fairlead/testenv/stage"
)

var programs stage.Programs

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if os.Geteuid() != 0 {
		return m.Run(), nil // the tests skip, or say that they may not
	}
	dir, err := os.MkdirTemp("", "fairlead-programs-*")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if programs, err = stage.Build(dir); err != nil {
		return 1, err
	}
	return m.Run(), nil
}
