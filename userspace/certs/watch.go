package certs

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long after a change files are looked at: one seldom comes
	// alone.
	settle = 200 * time.Millisecond
	// lookAgain is how often they are looked at anyway: not every file system
	// tells of changes, and a directory may be another one by now.
	lookAgain = time.Minute
)

// A Watcher tells of changes in the directories of some files. It is not about
// the files themselves, which editors and Kubernetes replace by renaming.
type Watcher struct {
	changed func(ctx context.Context)
	log     *slog.Logger

	mu    sync.Mutex
	files []string
	fresh chan struct{} // holds one element when files are others
}

// NewWatcher returns one of no files. changed is called after something has
// changed, and now and then without.
func NewWatcher(changed func(ctx context.Context), log *slog.Logger) *Watcher {
	return &Watcher{changed: changed, log: log, fresh: make(chan struct{}, 1)}
}

// Watch makes files the ones that are watched.
func (w *Watcher) Watch(files []string) {
	w.mu.Lock()
	w.files = files
	w.mu.Unlock()
	select {
	case w.fresh <- struct{}{}:
	default: // it is said already
	}
}

// Run watches until ctx is done.
func (w *Watcher) Run(ctx context.Context) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("watch files, which are looked at each minute only", "err", err)
		notify = &fsnotify.Watcher{} // its channels never bring anything
	} else {
		defer notify.Close()
	}
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	settled := time.NewTimer(0)
	settled.Stop()
	defer settled.Stop()
	watched := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.fresh:
			w.follow(notify, watched)
			settled.Reset(settle) // they may have changed before
		case <-notify.Events:
			settled.Reset(settle)
		case <-notify.Errors: // of too many events at once
			settled.Reset(settle)
		case <-again.C:
			clear(watched)
			w.follow(notify, watched)
			w.changed(ctx)
		case <-settled.C:
			w.changed(ctx)
		}
	}
}

// follow watches the directories of the files, and no others.
func (w *Watcher) follow(notify *fsnotify.Watcher, watched map[string]bool) {
	if notify.Events == nil {
		return
	}
	w.mu.Lock()
	dirs := map[string]bool{}
	for _, f := range w.files {
		dirs[filepath.Dir(f)] = true
	}
	w.mu.Unlock()
	for dir := range watched {
		if !dirs[dir] {
			_ = notify.Remove(dir) // it may be gone
			delete(watched, dir)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if watched[dir] {
			continue
		}
		if err := notify.Add(dir); err != nil {
			w.log.Debug("watch directory", "directory", dir, "err", err)
			continue
		}
		watched[dir] = true
	}
}
