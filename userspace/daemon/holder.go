package daemon

import (
	"context"
	"log/slog"

	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/fragments"
	"fairlead/userspace/view"
)

// A holder holds fragments for the kernel, of one instance at a time. It
// belongs to the goroutine of loop.
type holder struct {
	log   *slog.Logger
	stats fragments.Stats
	end   func() // ends what use has begun; nil while XDP does not run
}

// use holds the fragments of another instance from now on, or of none: nil. It
// is called before the one in use is closed.
func (h *holder) use(inst *loader.Instance) error {
	if h.end != nil {
		h.end()
		h.end = nil
	}
	if inst == nil {
		return nil
	}
	open, err := datapath.OpenFragments(inst)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	h.end = func() {
		cancel()
		<-done
	}
	go func() {
		defer close(done)
		if err := fragments.New(open, &h.stats, h.log).Run(ctx); ctx.Err() == nil {
			h.log.Warn("fragments are held no more", "err", err)
		}
	}()
	return nil
}

func (h *holder) view() view.Fragments {
	s := &h.stats
	return view.Fragments{
		Held: s.Held.Load(), Bytes: s.Bytes.Load(), Taken: s.Taken.Load(), GivenBack: s.GivenBack.Load(),
		TimedOut: s.TimedOut.Load(), NoRoom: s.NoRoom.Load(), Failed: s.Failed.Load(),
	}
}
