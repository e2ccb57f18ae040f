package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/logfile"
	"fairlead/userspace/model"
)

// flowsEvery is how often the kernel's table is compared with what its events have told.
const flowsEvery = 5 * time.Second

// flowBatch is how many events are written at once.
const flowBatch = 1024

// A flowLog has a line for each flow of the kernel that begins, and ends.
type flowLog struct {
	logbook[model.FlowLog, *openFlowLog]
	look  func(func(*loader.Maps) error) error
	every time.Duration
	mu    sync.Mutex
	reads bool // what the kernel tells is this process's to read
	hush  bool // the kernel knows that it is to tell nothing
}

// newFlowLog returns one that has look find the maps that there are, every so often.
func newFlowLog(look func(func(*loader.Maps) error) error, every time.Duration, log *slog.Logger) *flowLog {
	start := func(conf model.FlowLog) (*openFlowLog, error) {
		f, err := logfile.Open(conf.File)
		if err != nil {
			return nil, err
		}
		return &openFlowLog{File: f, watch: datapath.NewFlowWatch(conf.Sample), sample: uint32(conf.Sample), every: every, look: look, log: log}, nil
	}
	return &flowLog{logbook: logbook[model.FlowLog, *openFlowLog]{key: "flow-log", start: start, log: log}, look: look, every: every}
}

// prepare is that of the logbook. A log that is kept begins to read.
func (l *flowLog) prepare(conf model.FlowLog) (keep func(bool), err error) {
	swap, err := l.logbook.prepare(conf)
	return func(taken bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		swap(taken)
		l.apply()
	}, err
}

// follow says whether what the kernel tells is this process's to read: two cannot
// read what is told once. It is called again when the maps are others.
func (l *flowLog) follow(reads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads, l.hush = reads, false
	l.with(func(o *openFlowLog) { o.halt() })
	l.apply()
}

// apply has the log read, if there is one and it may. If there is none, the kernel tells nothing.
func (l *flowLog) apply() {
	if !l.reads {
		return
	}
	if l.isOn() {
		l.hush = false
		l.with(func(o *openFlowLog) { o.begin() })
		return
	}
	if l.hush { // each change of the configuration comes by
		return
	}
	err := l.look(func(m *loader.Maps) error { return m.SetEventSample(0) })
	if l.hush = err == nil; err != nil {
		l.log.Warn("end events of flows", "err", err)
	}
}

// close ends the log.
func (l *flowLog) close() {
	keep, _ := l.prepare(model.FlowLog{}) // to open nothing cannot fail
	keep(true)
}

// An openFlowLog is one, and what reads for it.
type openFlowLog struct {
	*logfile.File
	watch  *datapath.FlowWatch
	sample uint32
	every  time.Duration
	look   func(func(*loader.Maps) error) error
	log    *slog.Logger
	end    func()             // ends the reading; nil: nobody reads
	lost   loader.EventCounts // as it was told last
	known  bool               // whether that is so
}

// begin begins to read, unless somebody does.
func (o *openFlowLog) begin() {
	if o.end != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	o.end = func() {
		stop()
		<-done
	}
	go func() {
		defer close(done)
		o.run(ctx)
	}()
}

// halt ends the reading.
func (o *openFlowLog) halt() {
	if o.end != nil {
		o.end()
		o.end = nil
	}
}

// Close ends the log.
func (o *openFlowLog) Close() error {
	o.halt()
	return o.File.Close()
}

// run writes what becomes of flows until ctx is done.
func (o *openFlowLog) run(ctx context.Context) {
	said := false
	for ctx.Err() == nil {
		next := time.Now().Add(o.every)
		err := o.look(func(m *loader.Maps) error { return o.read(ctx, m, next) })
		if err != nil && !said && ctx.Err() == nil {
			o.log.Warn("log flows", "err", err)
		}
		said = err != nil
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(next)): // nothing is attached, or it failed
		}
	}
}

// read looks at the flow table, and then reads what the kernel tells, until the next look.
func (o *openFlowLog) read(ctx context.Context, m *loader.Maps, next time.Time) error {
	events, err := datapath.OpenFlowEvents(m)
	if err != nil {
		return err
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		if err := events.Stop(); err != nil {
			o.log.Warn("stop events of flows", "err", err)
		}
	})
	defer func() {
		if !stop() {
			<-stopped
		}
		if err := events.Close(); err != nil {
			o.log.Warn("close events of flows", "err", err)
		}
	}()
	if err := o.listen(m, events); err != nil {
		return err
	}
	found, err := o.watch.Look(m, events)
	if err == nil {
		err = o.write(found)
	}
	if err == nil {
		err = o.watch.Follow(ctx, m, events, next, flowBatch, o.write)
	}
	return errors.Join(err, o.tellLost(m))
}

// listen has the kernel tell of flows. What waits that nobody has asked for is forgotten.
func (o *openFlowLog) listen(m *loader.Maps, events *datapath.FlowEvents) error {
	told, err := m.ReadEventSample()
	if err == nil && told == 0 {
		err = events.Discard()
	}
	if err == nil && !o.known {
		o.lost, err = m.ReadEventCounts()
		o.known = err == nil
	}
	return errors.Join(err, m.SetEventSample(o.sample))
}

// A lostEvents says how many events there was no room for.
type lostEvents struct {
	Time   time.Time `json:"time"`
	Event  string    `json:"event"` // lost
	Begins uint64    `json:"begins"`
	Ends   uint64    `json:"ends"`
}

// tellLost writes how many events were lost since that was told last.
func (o *openFlowLog) tellLost(m *loader.Maps) error {
	now, err := m.ReadEventCounts()
	was := o.lost
	if err != nil {
		return err
	}
	o.lost = now
	more := now.BegunLost > was.BegunLost || now.EndedLost > was.EndedLost
	if !more || now.BegunLost < was.BegunLost || now.EndedLost < was.EndedLost { // of other maps
		return nil
	}
	return o.lines(lostEvents{time.Now(), "lost", now.BegunLost - was.BegunLost, now.EndedLost - was.EndedLost})
}

func (o *openFlowLog) write(events []datapath.FlowEvent) error {
	all := make([]any, len(events))
	for i := range events {
		all[i] = &events[i]
	}
	return o.lines(all...)
}

// lines writes one for each value.
func (o *openFlowLog) lines(all ...any) error {
	var lines []byte
	for _, one := range all {
		line, err := json.Marshal(one)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := o.Write(lines)
	return err
}
