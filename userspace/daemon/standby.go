package daemon

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"

	"fairlead/loader"
	"fairlead/userspace/datapath"
)

// standby keeps the kernel's standby map: the UDP flows that the proxies have,
// which XDP leaves to them. It is safe for concurrent use.
type standby struct {
	log   *slog.Logger
	mu    sync.Mutex
	flows map[[2]netip.AddrPort]bool // client, virtual address
	maps  *loader.Maps               // nil while XDP does not run
	// failed says that the last write did, and that this was logged.
	failed bool
}

func newStandby(log *slog.Logger) *standby {
	return &standby{log: log, flows: map[[2]netip.AddrPort]bool{}}
}

// change is told of flows that begin and end.
func (s *standby) change(client, virtual netip.AddrPort, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]netip.AddrPort{client, virtual}
	write := datapath.HoldStandby
	if open {
		s.flows[key] = true
	} else {
		delete(s.flows, key)
		write = datapath.ReleaseStandby
	}
	if s.maps == nil {
		return
	}
	err := write(s.maps, client, virtual)
	if err != nil && !s.failed {
		s.log.Warn("keep standby flows", "err", err)
	}
	s.failed = err != nil
}

// use writes the flows into the maps of another instance, and keeps those true
// from now on. It is called with nil before an instance is closed.
func (s *standby) use(maps *loader.Maps) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.maps
	if s.maps = maps; maps == nil {
		return nil
	}
	var errs []error
	if before == nil {
		// What stands there is of before XDP was lost, or of an agent that was
		// killed. Else it is these flows, which must not vanish meanwhile.
		errs = append(errs, datapath.ClearStandby(maps))
	}
	for f := range s.flows {
		errs = append(errs, datapath.HoldStandby(maps, f[0], f[1]))
	}
	return errors.Join(errs...)
}
