package daemon

import (
	"errors"
	"log/slog"
	"os"

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
	open  *datapath.Fragments // nil while XDP does not run
	done  chan struct{}       // closed when nobody reads open any more
}

// use holds the fragments of another instance from now on, or of none: nil. It
// is called before the one in use is closed.
func (h *holder) use(inst *loader.Instance) error {
	var err error
	if h.open != nil {
		err = h.open.Close()
		<-h.done
		h.open = nil
	}
	if inst == nil || err != nil {
		return err
	}
	open, err := datapath.OpenFragments(inst)
	if err != nil {
		return err
	}
	h.open, h.done = open, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		err := fragments.New(open, &h.stats, h.log).Run()
		if !errors.Is(err, os.ErrClosed) {
			h.log.Warn("fragments are held no more", "err", errors.Join(err, open.Close()))
		}
	}(h.done)
	return nil
}

func (h *holder) view() view.Fragments {
	s := &h.stats
	return view.Fragments{
		Held: s.Held.Load(), Bytes: s.Bytes.Load(), Taken: s.Taken.Load(), GivenBack: s.GivenBack.Load(),
		TimedOut: s.TimedOut.Load(), NoRoom: s.NoRoom.Load(), Failed: s.Failed.Load(),
	}
}
