package daemon

import (
	"context"
	"errors"
	"time"

	"fairlead/loader"
	"fairlead/userspace/datapath"
)

// collectEvery is how often the flow table is searched for what has expired.
const collectEvery = 10 * time.Second

// collect frees the room of expired flows until ctx is done.
func (a *agent) collect(ctx context.Context) {
	if a.lock == nil {
		return
	}
	if err := onInstance(a.opts.PinDir, repairOnce); err != nil {
		a.log.Warn("count connections again", "err", err)
	}
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	said := false
	for {
		a.collecting.Lock()
		err := onInstance(a.opts.PinDir, a.collectOnce)
		a.collecting.Unlock()
		if err != nil && !said {
			a.log.Warn("collect flows", "err", err)
		}
		said = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// onInstance calls f with the maps of the instance in dir, if there is one.
func onInstance(dir string, f func(*loader.Maps) error) error {
	inst, err := loader.Open(dir)
	if errors.Is(err, loader.ErrNotAttached) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f(inst.Maps()), inst.Close())
}

func (a *agent) collectOnce(maps *loader.Maps) error {
	c, err := datapath.Collect(maps)
	if err == nil {
		a.held.Store(int64(c.Held+1) / 2)
	}
	return err
}

// repairOnce corrects what an agent that was killed has not counted.
func repairOnce(maps *loader.Maps) error {
	_, err := maps.RepairConnections()
	return err
}
