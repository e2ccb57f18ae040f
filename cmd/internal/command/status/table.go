package status

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairlead/cmd/internal/command"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// Write prints s for people.
func (s *Status) Write(w io.Writer) error {
	if err := s.writeHead(w); err != nil {
		return err
	}
	for _, t := range []struct {
		titles []string
		rows   [][]string
	}{
		{[]string{"INTERFACE", "MODE", "PROGRAM", "REASON"}, s.interfaces()},
		{[]string{"SERVICE", "LISTEN", "PROTOCOL", "FORWARD", "RUNG", "STANDBY", "REASON"}, s.serviceRows()},
		{[]string{"SERVICE", "BACKEND", "WEIGHT", "FLOWS", "HEALTH", "SINCE", "NOTE"}, s.backendRows()},
		{[]string{"SERVICE", "CERTIFICATE", "NAMES", "EXPIRES"}, s.certificateRows()},
		{[]string{"MAP", "ENTRIES", "MEMORY"}, s.memory()},
	} {
		if len(t.rows) == 0 {
			continue
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		if err := command.WriteTable(w, t.titles, t.rows); err != nil {
			return err
		}
	}
	return nil
}

// writeHead prints what there is one of.
func (s *Status) writeHead(w io.Writer) error {
	var b strings.Builder
	if k := s.Kernel; k != nil {
		fmt.Fprintf(&b, "instance  %s, switch %s, %d of %d flows\n", k.Dir, k.Mode, k.Flows, k.FlowTable+k.FlowTable6)
	} else {
		fmt.Fprintf(&b, "instance  none: %s\n", oneLine(s.KernelReason))
	}
	fmt.Fprintf(&b, "agent     %s\n", s.Health)
	if s.Agent != nil {
		fmt.Fprintf(&b, "view      %.1fs old\n", s.ViewAge)
	} else {
		fmt.Fprintf(&b, "view      none: %s\n", oneLine(s.AgentReason))
	}
	switch {
	case s.Agent != nil:
		fmt.Fprintf(&b, "config    %s%s\n", s.Agent.Config, overlay(s.Agent))
		if s.Agent.ConfigError != "" {
			fmt.Fprintf(&b, "          a newer one was refused: %s\n", oneLine(s.Agent.ConfigError))
		}
		if s.Agent.CertificateError != "" {
			fmt.Fprintf(&b, "          a newer certificate was refused: %s\n", oneLine(s.Agent.CertificateError))
		}
		if s.Agent.NameError != "" {
			fmt.Fprintf(&b, "          backends are missing: %s\n", oneLine(s.Agent.NameError))
		}
		if s.Agent.XDP.Reason != "" {
			fmt.Fprintf(&b, "xdp       %s: %s\n", s.Agent.XDP.Mode, oneLine(s.Agent.XDP.Reason))
		}
	case s.Kernel != nil && s.Kernel.Config != "":
		fmt.Fprintf(&b, "config    %s\n", s.Kernel.Config)
	}
	if s.Agent != nil {
		writeServing(&b, s.Services)
		writeFragments(&b, &s.Agent.Fragments)
	}
	if s.Kernel != nil {
		fmt.Fprintf(&b, "memory    %s\n", command.Bytes(s.Kernel.Memory))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// overlay says what decides beside the configuration's file.
func overlay(v *view.View) (text string) {
	if v.Applied {
		text = " does not count: a configuration that was applied stands in its place"
	}
	switch {
	case v.Edits == 1:
		text += ", with a change of the API on top"
	case v.Edits > 1:
		text += fmt.Sprintf(", with %d changes of the API on top", v.Edits)
	}
	if text != "" {
		text += fmt.Sprintf(" (revision %d)", v.Revision)
	}
	return text
}

// writeServing prints whose services are not served by those who should.
func writeServing(w io.Writer, services []view.Service) {
	for _, x := range []struct {
		serving     model.Serving
		title, says string
	}{
		{model.ServingPanic, "panic", "too few backends are up, new flows go to all of them"},
		{model.ServingBackups, "backups", "no other backend can serve"},
	} {
		var names []string
		for i := range services {
			s := &services[i]
			if s.Serving == x.serving {
				names = append(names, s.Name)
				continue
			}
			for _, zone := range slices.Sorted(maps.Keys(s.ClientZones)) {
				if s.ClientZones[zone] == x.serving {
					names = append(names, s.Name+" for zone "+zone)
				}
			}
		}
		if len(names) > 0 {
			fmt.Fprintf(w, "%-9s %s: %s\n", x.title, strings.Join(names, ", "), x.says)
		}
	}
}

// writeFragments prints what the agent gave up, if it did.
func writeFragments(w io.Writer, f *view.Fragments) {
	if lost := f.TimedOut + f.NoRoom + f.Failed; lost > 0 {
		fmt.Fprintf(w, "fragments %d of %d given up: %d without a first one, %d without room, %d not taken back\n",
			lost, f.Taken, f.TimedOut, f.NoRoom, f.Failed)
	}
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// interfaces returns those that are attached, and those that the agent knows.
func (s *Status) interfaces() (rows [][]string) {
	reasons := map[string]string{}
	attached := map[string]bool{}
	if s.Agent != nil {
		for _, i := range s.Agent.XDP.Interfaces {
			reasons[i.Name] = oneLine(i.Reason)
		}
	}
	if s.Kernel != nil {
		for _, i := range s.Kernel.Interfaces {
			mode, reason := i.Mode, reasons[i.Name]
			if i.Ifindex == 0 {
				mode, reason = "gone", "the interface was deleted or has moved"
			}
			rows = append(rows, []string{i.Name, mode, strconv.Itoa(int(i.Program)), reason})
			attached[i.Name] = true
		}
	}
	if s.Agent != nil {
		for _, i := range s.Agent.XDP.Interfaces {
			if !attached[i.Name] {
				rows = append(rows, []string{i.Name, i.Mode, "", oneLine(i.Reason)})
			}
		}
	}
	return rows
}

func (s *Status) serviceRows() (rows [][]string) {
	for i := range s.Services {
		v := &s.Services[i]
		standby := "yes"
		if !v.Standby {
			standby = "no"
			if v.StandbyReason != "" {
				standby = "no: " + oneLine(v.StandbyReason)
			}
		}
		rows = append(rows, []string{v.Name, v.Listen, string(v.Protocol), string(v.Forward), string(v.Rung), standby, oneLine(v.Reason)})
	}
	return rows
}

func (s *Status) backendRows() (rows [][]string) {
	for i := range s.Services {
		for j := range s.Services[i].Backends {
			b := &s.Services[i].Backends[j]
			name := strings.TrimSpace(s.Services[i].Name + " " + b.Pool)
			_, health := s.Standing(b)
			rows = append(rows, []string{name, b.Address, weightWord(b), strconv.Itoa(b.Flows), health, s.since(b.Since), s.trouble(b)})
		}
	}
	return rows
}

func (s *Status) certificateRows() (rows [][]string) {
	for i := range s.Services {
		for _, c := range s.Services[i].Certificates {
			rows = append(rows, []string{s.Services[i].Name, c.File, strings.Join(c.Names, " "), s.expiry(c.NotAfter)})
		}
	}
	return rows
}

// expiry says when something ends, and how far off that is.
func (s *Status) expiry(t time.Time) string {
	if t.IsZero() {
		return "not there yet"
	}
	day, left := t.In(s.now.Location()).Format(time.DateOnly), int(t.Sub(s.now).Hours()/24)
	if !t.After(s.now) {
		return day + ", expired"
	}
	return fmt.Sprintf("%s, in %d days", day, left)
}

// weightWord says how much of its weight a backend has, if that is not all.
func weightWord(b *view.Backend) string {
	if b.Weight == 0 || b.Share == 100 {
		return strconv.Itoa(b.Weight)
	}
	return fmt.Sprintf("%d%% of %d", b.Share, b.Weight)
}

// Standing says how a backend stands: in a word, which is up, suspect, waits, drain
// or down, and in all.
func (s *Status) Standing(b *view.Backend) (word, all string) {
	switch wait := b.Wait(); {
	case !b.Up && b.Serves && s.allUp():
		return "down", "down, counts as up"
	case !b.Up && b.Serves:
		return "down", "down, serves in panic"
	case !b.Up:
		return "down", "down"
	case wait == view.WaitLeaving:
		return "drain", "leaves by " + s.clock(*b.Drains)
	case b.Ejected != nil:
		return "waits", "up, left out until " + s.clock(*b.Ejected)
	case wait == view.WaitDraining:
		return "drain", "drain"
	case wait != "":
		return "waits", "up, " + wait.Words(b.Zone)
	case b.Suspect != nil:
		return "suspect", "suspect"
	}
	return "up", "up"
}

// trouble says why the last probe failed, and what makes a backend suspect.
func (s *Status) trouble(b *view.Backend) string {
	text := oneLine(b.LastError)
	if b.Last != nil && b.Last.Up != nil {
		text = fmt.Sprintf("not probed yet; %s %s ago", map[bool]string{true: "up", false: "down"}[*b.Last.Up], s.now.Sub(b.Last.At).Truncate(time.Second))
	}
	if b.Last != nil && b.Last.Latency != nil {
		l := b.Last.Latency
		text = strings.TrimPrefix(fmt.Sprintf("%s; p50 %s p95 %s p99 %s of before %s", text, took(l.Median), took(l.P95), took(l.P99), s.clock(b.Last.At)), "; ")
	}
	if b.Suspect != nil {
		text = strings.TrimSuffix(fmt.Sprintf("since %s %s; %s", s.clock(b.Suspect.Since), b.Suspect, text), "; ")
	}
	return text
}

// took returns a number of seconds in words, such as 12.3ms.
func took(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
}

func (s *Status) since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return s.clock(t)
}

func (s *Status) memory() (rows [][]string) {
	if s.Kernel == nil {
		return nil
	}
	for _, m := range s.Kernel.Maps {
		rows = append(rows, []string{m.Name, strconv.Itoa(int(m.Entries)), command.Bytes(m.Bytes)})
	}
	return append(rows, []string{"total", "", command.Bytes(s.Kernel.Memory)})
}
