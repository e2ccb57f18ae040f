package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/loader"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/names"
	"fairlead/userspace/view"
)

func checkCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "check a configuration, and what may stand against it on this host; change nothing",
		Flags: []cli.Flag{
			command.ConfigFlag(),
			command.InterfaceFlag("assume that XDP attaches to `NAME`, which may be repeated, instead of the configuration's interfaces"),
			command.PinDirFlag(),
			command.RunDirFlag(),
		},
		Action: func(c *cli.Context) error { return check(c, w) },
	}
}

func check(c *cli.Context, w world) error {
	path, state, err := command.State(c, w.exists)
	if err != nil {
		return err
	}
	if state.XDP == model.XDPOff {
		if err := w.taken(&state, cmp.Or(c.String("run-dir"), state.Agent.RunDir, view.DefaultDir())); err != nil {
			return err
		}
	}
	found, missing := names.Lookup(c.Context, &state)
	lines, err := w.look(found, command.PinDir(c, &state.Agent))
	if err != nil {
		lines = append(lines, fmt.Sprintf("cannot look at this host: %v", err))
	}
	if missing != nil {
		lines = append(lines, strings.Split(missing.Error(), "\n")...)
	}
	for _, text := range append(lines, lonelyZones(&state)...) {
		fmt.Fprintln(w.errOut, "fairlead: warning:", text)
	}
	backends := 0
	for _, s := range state.Groups() {
		backends += len(s.Backends)
	}
	if _, err := fmt.Fprintf(w.out, "%s: good, services: %d, backends: %d\n", path, len(state.Services), backends); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// lonelyZones says if backends are in zones, but none in that of this host.
func lonelyZones(state *model.State) []string {
	zone, zones := "", map[string]bool{}
	for i := range state.Services {
		s := &state.Services[i]
		zone = cmp.Or(zone, s.Zone)
		for _, b := range s.Backends {
			zones[b.Zone] = true
		}
	}
	delete(zones, "")
	if zone == "" || zones[zone] || len(zones) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("zone: no backend is in %s: they are in %s", zone, strings.Join(slices.Sorted(maps.Keys(zones)), ", "))}
}

// conflicts returns what listens on service addresses. The sockets of a living agent
// of a pin directory do, by design, and cannot be told from others here.
func conflicts(state *model.State, pinDir string) ([]string, error) {
	if _, _, running, err := loader.AgentRunning(pinDir); err == nil && running {
		return nil, nil
	}
	return kernel.Conflicts(state, nil)
}

// taken returns an error for each service of a state without XDP that nobody could
// serve, as another program listens there. What the agent of a run directory has is its
// own.
func taken(state *model.State, runDir string) error {
	own := func(netip.AddrPort, model.Protocol) bool { return false }
	if v, err := view.Read(runDir); err == nil && v.Alive() {
		own = func(at netip.AddrPort, p model.Protocol) bool {
			return slices.ContainsFunc(v.Services, func(s view.Service) bool { return s.Standby && s.Protocol == p && listens(s.Listen, at) })
		}
	}
	lines, err := kernel.Conflicts(state, own)
	if err != nil {
		return nil // the agent will see
	}
	var errs []error
	for _, line := range lines {
		errs = append(errs, fmt.Errorf("%s: stop that program, or choose another port", line))
	}
	return errors.Join(errs...)
}

// listens reports whether a service that listens as text says has a socket at at.
func listens(text string, at netip.AddrPort) bool {
	first, end, ranged := strings.Cut(text, "-")
	listen, err := netip.ParseAddrPort(first)
	last := uint64(listen.Port())
	if ranged && err == nil {
		last, err = strconv.ParseUint(end, 10, 16)
	}
	return err == nil && listen.Addr() == at.Addr() && listen.Port() <= at.Port() && uint64(at.Port()) <= last
}

// look returns what may keep state from working on this host.
func look(state *model.State, pinDir string) ([]string, error) {
	if err := kernel.CheckIPv6(state); err != nil {
		return []string{err.Error()}, nil // nothing else can be looked at
	}
	if state.XDP == model.XDPOff {
		return nil, nil
	}
	lines, err := conflicts(state, pinDir)
	if err != nil {
		return nil, err
	}
	if len(state.Interfaces) == 0 {
		lines = append(lines, "the configuration names no interface: attach and run need --interface")
	}
	off, err := kernel.MissingForwarding(state, state.Interfaces)
	if err != nil {
		return lines, err
	}
	if len(off) > 0 {
		words := make([]string, len(off))
		for i, s := range off {
			words[i] = s.String()
		}
		lines = append(lines, fmt.Sprintf("forwarding is off: run: sysctl -w %s, or run the agent with --set-sysctl", strings.Join(words, " ")))
	}
	faults, err := kernel.FullNATFaults(state)
	if err != nil {
		return lines, err
	}
	for _, f := range faults {
		lines = append(lines, "full-nat: "+f)
	}
	fault, err := kernel.CookieFault(state)
	if err != nil {
		return lines, err
	}
	if fault != "" {
		lines = append(lines, "syn-cookies: "+fault)
	}
	warnings, err := kernel.Warnings(state, state.Interfaces)
	return append(lines, warnings...), err
}
