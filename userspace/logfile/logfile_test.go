package logfile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// TestNoLineIsLostWhenFilesAreRenamed: what was written before Reopen was asked for is
// in the old file, what was written after it returned in the new one, each line once
// and whole.
func TestNoLineIsLostWhenFilesAreRenamed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	const writers, rounds, lines = 4, 20, 50
	for round := range rounds {
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for i := range lines {
					if _, err := fmt.Fprintf(l, "%d %d %d end\n", round, w, i); err != nil {
						t.Error(err)
					}
				}
			})
		}
		if round%2 == 0 { // else in the middle of it
			all.Wait()
		}
		if err := os.Rename(path, fmt.Sprintf("%s.%02d", path, round)); err != nil {
			t.Fatal(err)
		}
		if err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
		all.Wait()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for round := range rounds + 1 {
		name := fmt.Sprintf("%s.%02d", path, round)
		if round == rounds {
			name = path
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			seen[line]++
			var of int
			if _, err := fmt.Sscanf(line, "%d", &of); err != nil || of != round && (of != round-1 || of%2 == 0) || !strings.HasSuffix(line, " end\n") {
				t.Fatalf("%q in the file of round %d", line, round)
			}
		}
	}
	if len(seen) != writers*rounds*lines {
		t.Errorf("%d lines, want %d", len(seen), writers*rounds*lines)
	}
	for line, n := range seen {
		if n != 1 {
			t.Errorf("%q is there %d times", line, n)
		}
	}
}

func TestALogThatCannotBeOpenedAgainGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log")
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err == nil || err.Error() != "open log: open "+path+": no such file or directory" {
		t.Errorf("%v", err)
	}
	if _, err := l.Write([]byte("still\n")); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir+".old", "log")); err != nil || string(data) != "still\n" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := Open(path); err == nil {
		t.Error("opened in a directory that is not there")
	}
}

// kinds makes a file of each kind below a directory.
func kinds(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	read, pipe := filepath.Join(dir, "read"), filepath.Join(dir, "pipe")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), syscall.Mkfifo(read, 0o600), os.Symlink(pipe, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(read, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	return dir
}

// TestWhatALogCanBe: what may never come to take a line is refused at once.
func TestWhatALogCanBe(t *testing.T) {
	dir := kinds(t)
	const kind = "it is neither a regular file nor a character device: name a file"
	for name, want := range map[string]string{
		"file": "", "/dev/null": "", "/dev/full": "",
		"pipe": kind, "link": kind, "read": kind, "socket": kind, ".": kind, "pipe/log": "not a directory",
		"none/log": "no such file or directory",
	} {
		path := name
		if !filepath.IsAbs(name) {
			path = filepath.Join(dir, name)
		}
		if want != "" {
			want = "open " + path + ": " + want
		}
		if err := Check(path); fmt.Sprint(err) != cmp.Or(want, "<nil>") {
			t.Errorf("check %s: %v, want %q", name, err, want)
		}
		if _, err := os.Stat(path); name == "file" && !os.IsNotExist(err) {
			t.Errorf("a check has made a file: %v", err)
		}
		if want != "" {
			want = "open log: " + want
		}
		l, err := Open(path)
		if fmt.Sprint(err) != cmp.Or(want, "<nil>") {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if err == nil {
			l.Close()
		}
	}
}

// TestAPipeInPlaceOfALog that somebody has put there leaves the old one.
func TestAPipeInPlaceOfALog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(os.Rename(path, path+".old"), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); !errors.Is(err, ErrKind) {
		t.Errorf("%v, want %v", err, ErrKind)
	}
	if _, err := l.Write([]byte("still\n")); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(path + ".old"); err != nil || string(data) != "still\n" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestTheOwnStreamsAreLogs even if they are pipes, as they are in containers.
func TestTheOwnStreamsAreLogs(t *testing.T) {
	const variable = "FAIRLEAD_LOG_OF_TEST"
	if path := os.Getenv(variable); path != "" {
		l, err := Open(path)
		if err == nil {
			_, err = l.Write([]byte("a line\n"))
		}
		if err != nil {
			t.Fatal(err)
		}
		os.Exit(0) // before anything else is printed
	}
	for _, path := range []string{"/dev/stdout", "/dev/stderr"} {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), variable+"="+path)
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "a line\n" {
			t.Errorf("%s: %v, %q", path, err, out)
		}
	}
}

// TestAReaderThatTakesNothingKeepsNobodyWaiting for long: what finds no room is lost, and
// lines stay whole.
func TestAReaderThatTakesNothingKeepsNobodyWaiting(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	own := os.Stdout
	os.Stdout = write
	defer func() { os.Stdout = own }()
	l, err := Open(fmt.Sprintf("/proc/self/fd/%d", write.Fd()))
	if err := errors.Join(err, write.Close()); err != nil {
		t.Fatal(err)
	}
	const lines, most = 50000, 300
	began := time.Now()
	lost := 0
	for i := range lines / most {
		var batch []byte
		for k := range most {
			batch = fmt.Appendf(batch, "%06d of a log\n", i*most+k)
		}
		if _, err := l.Write(batch); errors.Is(err, os.ErrDeadlineExceeded) {
			lost++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); lost < 2 || took > lines/most*patience/4 {
		t.Errorf("%d times nobody took anything, in %s", lost, took)
	}
	taken := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(read)
		taken <- all
	}()
	for err = os.ErrDeadlineExceeded; errors.Is(err, os.ErrDeadlineExceeded); {
		_, err = l.Write([]byte("999999 of a log\n"))
	}
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	before, n := -1, 0
	for line := range strings.Lines(string(<-taken)) {
		if got, err := fmt.Sscanf(line, "%06d of a log\n", &n); got != 1 || err != nil || n <= before || len(line) != len("999999 of a log\n") {
			t.Fatalf("%q after line %d: %v", line, before, err)
		}
		before = n
	}
	if before != 999999 {
		t.Errorf("the last line is %d", before)
	}
}
