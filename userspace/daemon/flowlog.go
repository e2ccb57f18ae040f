package daemon

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/logfile"
	"fairlead/userspace/model"
)

// flowsEvery is how often the kernel's table is compared with how it was.
const flowsEvery = 5 * time.Second

// A flowLog has a line for each flow of the kernel that begins, and ends.
type flowLog struct {
	logbook[model.FlowLog, *openFlowLog]
}

// An openFlowLog is one, and what looks for flows.
type openFlowLog struct {
	*logfile.File
	every time.Duration
	stop  context.CancelFunc
	done  chan struct{}
}

// newFlowLog returns one that has look find the maps that there are, every so often.
func newFlowLog(look func(func(*loader.Maps) error) error, every time.Duration, log *slog.Logger) *flowLog {
	start := func(conf model.FlowLog) (*openFlowLog, error) {
		f, err := logfile.Open(conf.File)
		if err != nil {
			return nil, err
		}
		ctx, stop := context.WithCancel(context.Background())
		o := &openFlowLog{f, every, stop, make(chan struct{})}
		go func() {
			defer close(o.done)
			o.run(ctx, datapath.NewFlowWatch(conf.Sample), look, log)
		}()
		return o, nil
	}
	return &flowLog{logbook[model.FlowLog, *openFlowLog]{key: "flow-log", start: start, log: log}}
}

// run writes what becomes of flows until ctx is done.
func (o *openFlowLog) run(ctx context.Context, w *datapath.FlowWatch, look func(func(*loader.Maps) error) error, log *slog.Logger) {
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	said := false
	for {
		err := look(func(m *loader.Maps) error {
			events, err := w.Look(m, time.Now())
			if err != nil {
				return err
			}
			return o.write(events)
		})
		if err != nil && !said {
			log.Warn("log flows", "err", err)
		}
		said = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (o *openFlowLog) write(events []datapath.FlowEvent) error {
	var lines []byte
	for i := range events {
		line, err := json.Marshal(&events[i])
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

// Close ends the log.
func (o *openFlowLog) Close() error {
	o.stop()
	<-o.done
	return o.File.Close()
}
