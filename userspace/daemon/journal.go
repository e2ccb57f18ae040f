package daemon

import (
	"context"
	"errors"
	"log/slog"

	"fairlead/userspace/accesslog"
	"fairlead/userspace/model"
)

// A journal is the access log of all services.
type journal struct {
	logbook[model.AccessLog, *openJournal]
}

// An openJournal is an access log and what writes its lines.
type openJournal struct {
	*accesslog.Log
	stop context.CancelFunc
	done chan struct{}
}

func newJournal(log *slog.Logger) *journal {
	start := func(conf model.AccessLog) (*openJournal, error) {
		format, err := accesslog.ParseFormat(conf.Format)
		if err != nil {
			return nil, err
		}
		l, err := accesslog.Open(conf.File, format, log)
		if err != nil {
			return nil, err
		}
		ctx, stop := context.WithCancel(context.Background())
		o := &openJournal{l, stop, make(chan struct{})}
		go func() {
			defer close(o.done)
			l.Run(ctx)
		}()
		return o, nil
	}
	return &journal{logbook[model.AccessLog, *openJournal]{key: "access-log", start: start, log: log}}
}

// Close writes what waits and closes the file.
func (o *openJournal) Close() error {
	o.stop()
	<-o.done
	return o.Log.Close()
}

// of returns who is told of what begins at a service now, whose name may change.
func (j *journal) of(name func() string) func() func(*accesslog.Record) {
	return func() func(*accesslog.Record) {
		if !j.isOn() {
			return nil
		}
		return func(r *accesslog.Record) {
			r.Service = name()
			j.with(func(o *openJournal) { o.Add(r) })
		}
	}
}

// prepareLogs opens the logs that a state asks for. What it returns, never nil, is
// called once: with true for these to be the logs from now on, else to forget them.
func (a *agent) prepareLogs(s *model.State) (keep func(bool), err error) {
	keepAccess, err := a.journal.prepare(s.AccessLog)
	keepFlows, flowErr := a.flowLog.prepare(s.FlowLog)
	keepTraces, traceErr := a.traces.prepare(s.Tracing)
	err = errors.Join(err, flowErr, traceErr)
	keep = func(taken bool) {
		keepAccess(taken)
		keepFlows(taken)
		keepTraces(taken)
	}
	if err != nil {
		keep(false)
		return func(bool) {}, err
	}
	return keep, nil
}

// openLogs opens what the state in force asks for, before anything is served.
func (a *agent) openLogs() error {
	keep, err := a.prepareLogs(a.state)
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
	reopen(&a.journal.logbook)
	reopen(&a.flowLog.logbook)
}
