package stage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Programs are the paths of the programs that play.
type Programs struct {
	Loader, Fairlead, Dummyserver string
}

// In returns the programs in a directory, and an error that wraps
// [os.ErrNotExist] unless all are there.
func In(dir string) (Programs, error) {
	p := Programs{
		Loader:      filepath.Join(dir, "loader"),
		Fairlead:    filepath.Join(dir, "fairlead"),
		Dummyserver: filepath.Join(dir, "dummyserver"),
	}
	var errs []error
	for _, path := range []string{p.Loader, p.Fairlead, p.Dummyserver} {
		_, err := os.Stat(path)
		errs = append(errs, err)
	}
	return p, errors.Join(errs...)
}

// Build builds the programs, static, into a directory. The working directory
// must be in the module.
func Build(dir string) (Programs, error) {
	// Programs that run without root must reach them.
	if err := os.Chmod(dir, 0o755); err != nil {
		return Programs{}, err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/",
		"fairlead/cmd/loader", "fairlead/cmd/fairlead", "fairlead/cmd/dummyserver")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Programs{}, fmt.Errorf("build programs: %w\n%s", err, out)
	}
	return In(dir)
}
