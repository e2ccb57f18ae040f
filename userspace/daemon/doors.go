package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"

	"fairlead/userspace/model"
	"fairlead/userspace/peercred"
	"fairlead/userspace/poolsock"
	"fairlead/userspace/registry"
)

// doors are the ways beside the admin API by which others change an agent: a line of
// text for each pool, and backends that register themselves.
type doors struct {
	lines    *poolsock.Server
	registry *registry.Registry
	// registration is where the registry answers.
	registration registry.Server
}

func newDoors(runDir string, p *plane, s *sockets, log *slog.Logger) *doors {
	d := &doors{lines: poolsock.New(runDir, p, log), registry: registry.New(p, log)}
	d.registration.Listen = func(ctx context.Context, at string) (net.Listener, error) {
		l, err := s.own(ctx, "registration", at)
		if err != nil {
			return nil, fmt.Errorf("%w; %s", err, adviceFor("registration: listen", d.registration.Address(), at, err))
		}
		return l, nil
	}
	return d
}

// register has backends register as a state says, from now on. An error changes
// nothing.
func (d *doors) register(ctx context.Context, s *model.State, log *slog.Logger) error {
	return d.registration.Use(ctx, s.Registration, d.registry, log)
}

// openDoors lets others change what the state in force has.
func (a *agent) openDoors() {
	a.doors.registry.Use(a.vault.tokens(a.state.Registration))
	allowed, err := peercred.Named(a.state.Admin.Write.Users, a.state.Admin.Write.Groups)
	if a.news("users of sockets", err) {
		a.log.Warn("look up who may change pools", "err", err)
	}
	allowed.Users = append(allowed.Users, 0, uint32(os.Geteuid())) //nolint:gosec // an identity is no number to count with
	if err := a.doors.lines.Use(poolNames(a.state), allowed); a.news("pool sockets", err) {
		a.log.Warn("open sockets of pools", "err", err)
	}
}

// poolNames returns the names by which changes know backends, in order: pools, and
// services that list backends themselves.
func poolNames(s *model.State) (all []string) {
	for i := range s.Pools {
		all = append(all, s.Pools[i].ShownName())
	}
	for i := range s.Services {
		if f := s.Services[i].Forward; f != model.ForwardHTTP && f != model.ForwardTLS {
			all = append(all, s.Services[i].Name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// yield leaves them to another process: leases are renewed where they end.
func (d *doors) yield(log *slog.Logger) {
	if err := d.lines.Yield(); err != nil {
		log.Warn("let go of pool sockets", "err", err)
	}
	_ = d.registration.Use(context.Background(), nil, nil, log) // to listen nowhere cannot fail
}

// close closes them all.
func (d *doors) close() error {
	d.registration.Close()
	return d.lines.Close()
}
