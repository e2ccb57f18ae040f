package daemon

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

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
	// failed says that a write into these maps did, and that this was logged.
	failed bool
	// inherits says that what stands in the maps is of a process whose flows are to
	// come: see settle.
	inherits bool
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
	if err := write(s.maps, client, virtual); err != nil && !s.failed {
		s.failed = true
		s.log.Warn("keep standby flows", "err", err)
	}
}

// use writes the flows into the maps of another instance, and keeps those true
// from now on. Flows that do not fit are no error. It is called with nil before
// an instance is closed.
func (s *standby) use(maps *loader.Maps) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if maps != nil {
		if err := s.fill(maps); err != nil {
			return err // those of before stay in use
		}
	}
	s.maps = maps
	return nil
}

func (s *standby) fill(maps *loader.Maps) error {
	if s.maps == nil && !s.inherits {
		// What stands there is of before XDP was lost, or of an agent that was
		// killed. Else it is these flows, which must not vanish meanwhile.
		if err := datapath.ClearStandby(maps, nil); err != nil {
			return err
		}
	}
	s.failed = false
	held := 0
	for f := range s.flows {
		err := datapath.HoldStandby(maps, f[0], f[1])
		if errors.Is(err, unix.E2BIG) {
			s.failed = true
			s.log.Warn("standby flows do not fit, XDP takes the others over", "held", held, "flows", len(s.flows))
			return nil
		}
		if err != nil {
			return err
		}
		held++
	}
	return nil
}

// settle adds the flows of the process before this one, and lets go of what else the
// maps have of it.
func (s *standby) settle(flows [][2]netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inherits = false
	for _, f := range flows {
		s.flows[f] = true
	}
	if s.maps == nil {
		return nil
	}
	if err := s.fill(s.maps); err != nil {
		return err
	}
	return datapath.ClearStandby(s.maps, func(client, virtual netip.AddrPort) bool { return s.flows[[2]netip.AddrPort{client, virtual}] })
}
