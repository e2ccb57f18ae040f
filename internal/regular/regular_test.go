package regular

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	file, link, pipe, socket := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe"), filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(os.WriteFile(file, []byte("text"), 0o600), os.Symlink(file, link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link} {
		if data, err := Read(path); string(data) != "text" || err != nil {
			t.Errorf("%s: %q, %v", path, data, err)
		}
	}
	for _, path := range []string{pipe, dir, "/dev/zero"} {
		if data, err := Read(path); data != nil || !errors.Is(err, ErrKind) || err.Error() != "open "+path+": it is no regular file: name one" {
			t.Errorf("%s: %q, %v", path, data, err)
		}
	}
	if _, err := Read(socket); err == nil {
		t.Error("a socket was read")
	}
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
