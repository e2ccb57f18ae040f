package daemon

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"fairlead/userspace/model"
)

// stickyFile holds, in the run directory, what signs the cookies of pools whose
// configuration has no key. It outlives agents, so that clients keep their backend.
const (
	stickyFile = "sticky.key"
	stickySize = 32
)

// stickyKey returns the key of a pool's cookies. That of the agent is read, or
// made, when it is first needed.
func (a *agent) stickyKey(s *model.Sticky) string {
	if s.By != model.StickyCookie || s.Key != "" {
		return s.Key
	}
	if a.ownKey == "" {
		var err error
		if a.ownKey, err = keptKey(a.opts.RunDir); err != nil {
			a.log.Warn("sticky sessions end with this agent", "err", err)
		}
	}
	return a.ownKey
}

// keptKey returns the key in a directory, and makes it if there is none. The key
// is good even if it could not be kept.
func keptKey(dir string) (string, error) {
	path := filepath.Join(dir, stickyFile)
	key, err := os.ReadFile(path)
	if err == nil && len(key) == stickySize {
		return string(key), os.Chmod(path, 0o600)
	}
	fresh := make([]byte, stickySize)
	rand.Read(fresh) // never fails
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return string(fresh), fmt.Errorf("read key of cookies: %w", err)
	}
	return string(fresh), writePrivate(path, fresh)
}

// writePrivate puts data where nobody else can read it, whole or not at all.
func writePrivate(path string, data []byte) error {
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	var f *os.File
	if err == nil {
		f, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".") // 0600
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}
