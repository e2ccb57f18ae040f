package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// A logbook is a log that a configuration of type C asks for; its zero value asks for
// none.
type logbook[C comparable, S io.Closer] struct {
	key   string // of the configuration
	start func(C) (S, error)
	log   *slog.Logger

	mu   sync.RWMutex // held for writing while there is another one
	conf C
	sink S // while conf is not zero
}

// prepare opens what a configuration asks for. What it returns, never nil, is
// called once: with true for that to be the log from now on, else to forget it.
func (b *logbook[C, S]) prepare(conf C) (keep func(bool), err error) {
	var none C
	b.mu.RLock()
	old := b.conf
	b.mu.RUnlock()
	if old == conf {
		return func(bool) {}, nil
	}
	var next S
	if conf != none {
		if next, err = b.start(conf); err != nil {
			return func(bool) {}, fmt.Errorf("%s: %w", b.key, err)
		}
	}
	return func(taken bool) {
		unused := next
		if taken {
			b.mu.Lock()
			unused, b.sink, conf, b.conf = b.sink, next, b.conf, conf
			b.mu.Unlock()
		}
		if conf != none {
			b.end(unused)
		}
	}, nil
}

func (b *logbook[C, S]) end(s S) {
	if err := s.Close(); err != nil {
		b.log.Warn("close log", "log", b.key, "err", err)
	}
}

// with calls f with the log, if there is one, which stays open meanwhile.
func (b *logbook[C, S]) with(f func(S)) {
	var none C
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.conf != none {
		f(b.sink)
	}
}

// isOn reports whether there is a log.
func (b *logbook[C, S]) isOn() (on bool) {
	b.with(func(S) { on = true })
	return on
}

// close ends the log, which gets nothing more.
func (b *logbook[C, S]) close() {
	var none C
	keep, _ := b.prepare(none) // to open nothing cannot fail
	keep(true)
}

// A file is a log that somebody may rename.
type file interface {
	io.Closer
	Reopen() error // the file that has its path now is the one to write to
}

// reopen has a log, if there is one, written to the file that has its path now.
func reopen[C comparable, S file](b *logbook[C, S]) {
	b.with(func(s S) {
		if err := s.Reopen(); err != nil {
			b.log.Error("log not opened again, the old file goes on", "log", b.key, "err", err)
		}
	})
}
