package logfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

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
