package certs

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const patience = 20 * time.Second

// watching runs a watcher and returns it and what tells of changes.
func watching(t *testing.T) (*Watcher, chan struct{}) {
	changes := make(chan struct{})
	w := NewWatcher(func(ctx context.Context) {
		select {
		case changes <- struct{}{}:
		case <-ctx.Done():
		}
	}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return w, changes
}

// told waits for a change.
func told(t *testing.T, changes chan struct{}, after string) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(patience):
		t.Fatalf("%s: nothing is told", after)
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestChangesAreTold(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "site.pem")
	put(t, file, "1")
	w, changes := watching(t)
	w.Watch([]string{file})
	told(t, changes, "new files")
	put(t, file, "2")
	told(t, changes, "a write")
	put(t, file+".new", "3")
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	told(t, changes, "a rename")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	told(t, changes, "a removal")
}

// A ConfigMap is a directory of links, all by way of one that is replaced.
func TestChangesByLinksAreTold(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, version, "site.pem"), version)
	}
	file, data := filepath.Join(dir, "site.pem"), filepath.Join(dir, "..data")
	for link, to := range map[string]string{data: "v1", file: "..data/site.pem", data + ".new": "v2"} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	w, changes := watching(t)
	w.Watch([]string{file})
	told(t, changes, "new files")
	if err := os.Rename(data+".new", data); err != nil {
		t.Fatal(err)
	}
	told(t, changes, "another version")
	if got, err := os.ReadFile(file); err != nil || string(got) != "v2" {
		t.Error(string(got), err)
	}
	other := filepath.Join(t.TempDir(), "other.pem")
	w.Watch([]string{other})
	told(t, changes, "other files")
	put(t, other, "1")
	told(t, changes, "a write elsewhere")
}
