package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"fairlead/userspace/accesslog"
	"fairlead/userspace/model"
)

// A journal is the access log of all services, or none: the zero value.
type journal struct {
	log *slog.Logger

	mu   sync.RWMutex // held for writing while open is another one
	open *openJournal
	on   atomic.Bool // whether there is one, for who begins
}

// An openJournal is a log as a configuration has it, and what writes to it.
type openJournal struct {
	*accesslog.Log
	conf model.AccessLog
	stop context.CancelFunc
	done chan struct{}
}

// prepare opens what a configuration asks for. What it returns, never nil, is
// called once: with true for that to be the log from now on, else to forget it.
func (j *journal) prepare(conf model.AccessLog) (keep func(bool), err error) {
	j.mu.RLock()
	old := j.open
	j.mu.RUnlock()
	nothing := func(bool) {}
	if old != nil && old.conf == conf || old == nil && conf.File == "" {
		return nothing, nil
	}
	var next *openJournal
	if conf.File != "" {
		if next, err = j.start(conf); err != nil {
			return nothing, fmt.Errorf("access-log: %w", err)
		}
	}
	return func(taken bool) {
		unused := next
		if taken {
			j.mu.Lock()
			unused, j.open = j.open, next
			j.on.Store(next != nil)
			j.mu.Unlock()
		}
		if unused != nil {
			j.end(unused)
		}
	}, nil
}

func (j *journal) start(conf model.AccessLog) (*openJournal, error) {
	format, err := accesslog.ParseFormat(conf.Format)
	if err != nil {
		return nil, err
	}
	l, err := accesslog.Open(conf.File, format, j.log)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	next := &openJournal{l, conf, stop, make(chan struct{})}
	go func() {
		defer close(next.done)
		l.Run(ctx)
	}()
	return next, nil
}

func (j *journal) end(o *openJournal) {
	o.stop()
	<-o.done
	if err := o.Close(); err != nil {
		j.log.Warn("close access log", "err", err)
	}
}

// of returns who is told of what begins at a service now, whose name may change.
func (j *journal) of(name func() string) func() func(*accesslog.Record) {
	return func() func(*accesslog.Record) {
		if !j.on.Load() {
			return nil
		}
		return func(r *accesslog.Record) {
			r.Service = name()
			j.mu.RLock()
			defer j.mu.RUnlock()
			if j.open != nil {
				j.open.Add(r)
			}
		}
	}
}

// reopen makes the file that has the log's path now the one that is written to.
func (j *journal) reopen() error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.open == nil {
		return nil
	}
	return j.open.Reopen()
}

// close ends the log, which gets nothing more.
func (j *journal) close() {
	j.mu.Lock()
	last := j.open
	j.open = nil
	j.on.Store(false)
	j.mu.Unlock()
	if last != nil {
		j.end(last)
	}
}

// openJournal opens what the state in force asks for, before anything is served.
func (a *agent) openJournal() error {
	keep, err := a.journal.prepare(a.state.AccessLog)
	keep(err == nil)
	return err
}

// rotate opens logs again whose files somebody has renamed.
func (a *agent) rotate() {
	if a.opts.Reopen != nil {
		if err := a.opts.Reopen(); err != nil {
			a.log.Error("log not opened again, the old file goes on", "err", err)
		}
	}
	if err := a.journal.reopen(); err != nil {
		a.log.Error("access log not opened again, the old file goes on", "err", err)
	}
}
