package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/loader"
	"fairlead/userspace/datapath"
)

func mapsCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "maps",
		Usage: "show what the kernel holds",
		Subcommands: []*cli.Command{
			rowsCommand(w, "services", "list services and what they forwarded", services),
			rowsCommand(w, "backends", "list backends and what they got", backends),
			flowsCommand(w),
			rowsCommand(w, "drops", "count dropped packets by reason", drops,
				command.Bool("all", "show reasons that dropped nothing, too")),
			rowsCommand(w, "stats", "count all packets by verdict, and the sums", stats),
		},
	}
}

// A table is what rowsCommand prints: for people, and for programs.
type table struct {
	titles []string
	rows   [][]string
	json   any
}

// rowsCommand returns a command that prints what show makes of the maps.
func rowsCommand(w world, name, usage string, show func(*cli.Context, *datapath.View) table, flags ...cli.Flag) *cli.Command {
	return &cli.Command{
		Name:  name,
		Usage: usage,
		Flags: append(flags, command.PinDirFlag(), command.OutputFlag()),
		Action: func(c *cli.Context) error {
			v, err := w.rows(c.String("pin-dir"))
			if err != nil {
				return err
			}
			t := show(c, v)
			if command.JSON(c) {
				return command.WriteJSON(w.out, t.json)
			}
			return command.WriteTable(w.out, t.titles, t.rows)
		},
	}
}

var counterTitles = []string{"FLOWS", "FORWARD PACKETS", "FORWARD BYTES", "REPLY PACKETS", "REPLY BYTES"}

// troubleTitles are of what only backends have beside these.
var troubleTitles = []string{"UNANSWERED", "REFUSED", "RESETS"}

func counterCells(c datapath.Counters) []string {
	return []string{number(c.Flows), number(c.ForwardPackets), number(c.ForwardBytes), number(c.ReplyPackets), number(c.ReplyBytes)}
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

func services(_ *cli.Context, v *datapath.View) table {
	t := table{
		titles: append([]string{"SERVICE", "LISTEN", "PROTOCOL", "RUNG", "LOCAL", "ON-DOWN", "BALANCE", "SLOTS", "BACKENDS", "CONNECTIONS"}, counterTitles...),
		json:   v.Services,
	}
	choosy := slices.ContainsFunc(v.Services, func(s datapath.ServiceView) bool { return s.Clients != nil })
	if choosy {
		t.titles = append(t.titles, "CLIENTS")
	}
	wary := slices.ContainsFunc(v.Services, func(s datapath.ServiceView) bool { return s.SYNCookies != nil })
	if wary {
		t.titles = append(t.titles, "SYN-COOKIES")
	}
	zoned := slices.ContainsFunc(v.Services, func(s datapath.ServiceView) bool { return s.ClientZones != nil })
	if zoned {
		t.titles = append(t.titles, "SLOTS BY ZONE")
	}
	for i := range v.Services {
		s := &v.Services[i]
		local := "no"
		if s.Local {
			local = "yes"
		}
		t.rows = append(t.rows, append([]string{
			s.Name, s.Listen, string(s.Protocol), s.Rung, local, s.OnDown, s.Balance, strconv.Itoa(s.Slots), strconv.Itoa(len(s.Backends)),
			number(uint64(s.Connections)),
		}, counterCells(s.Counters)...))
		if choosy {
			t.rows[i] = append(t.rows[i], clientsCell(s.Clients))
		}
		if wary {
			t.rows[i] = append(t.rows[i], cookiesCell(s.SYNCookies))
		}
		if zoned {
			t.rows[i] = append(t.rows[i], zonesCell(s.ClientZones))
		}
	}
	return t
}

// A backendRow is a backend with the name of its service.
type backendRow struct {
	Service string `json:"service"`
	datapath.BackendView
}

func backends(_ *cli.Context, v *datapath.View) table {
	rows := []backendRow{}
	t := table{titles: slices.Concat([]string{"SERVICE", "BACKEND", "STATE", "WEIGHT", "SLOTS", "CONNECTIONS"}, counterTitles, troubleTitles)}
	for i := range v.Services {
		for _, b := range v.Services[i].Backends {
			rows = append(rows, backendRow{v.Services[i].Name, b})
			t.rows = append(t.rows, slices.Concat([]string{
				v.Services[i].Name, b.Address, b.State, strconv.Itoa(int(b.Weight)), strconv.Itoa(b.Slots),
				number(uint64(b.Connections)),
			}, counterCells(b.Counters), []string{number(b.Unanswered), number(b.Refused), number(b.Resets)}))
		}
	}
	t.json = rows
	return t
}

// A dropRow is a reason to drop packets.
type dropRow struct {
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
}

func drops(c *cli.Context, v *datapath.View) table {
	rows := []dropRow{}
	t := table{titles: []string{"REASON", "PACKETS"}}
	for i := range loader.Verdicts {
		n := v.Verdicts[i.String()]
		if i.Kind() != loader.KindDrop || n == 0 && !c.Bool("all") {
			continue
		}
		rows = append(rows, dropRow{i.Reason(), n})
		t.rows = append(t.rows, []string{i.Reason(), number(n)})
	}
	t.json = rows
	return t
}

// A statsView is every verdict's count, and sums of them.
type statsView struct {
	Packets  uint64                 `json:"packets"`
	Kinds    map[loader.Kind]uint64 `json:"kinds"`
	Verdicts map[string]uint64      `json:"verdicts"`
	// Evictions are the entries that the flow table gave up for others.
	Evictions map[string]uint64 `json:"evictions"`
	// Forwarded are the sums over the services that there are.
	Forwarded datapath.Counters `json:"forwarded"`
}

func stats(_ *cli.Context, v *datapath.View) table {
	kinds := []loader.Kind{loader.KindPass, loader.KindForward, loader.KindAnswer, loader.KindHold, loader.KindDrop}
	sums := v.Totals()
	s := statsView{sums.Packets, sums.Kinds, v.Verdicts, v.Evictions, sums.Forwarded}
	t := table{titles: []string{"VERDICT", "PACKETS"}, json: s}
	for i := range loader.Verdicts {
		t.rows = append(t.rows, []string{i.String(), number(v.Verdicts[i.String()])})
	}
	for _, k := range kinds {
		t.rows = append(t.rows, []string{"all " + string(k), number(s.Kinds[k])})
	}
	t.rows = append(t.rows, []string{"all", number(s.Packets)})
	for i := range loader.Evictions {
		t.rows = append(t.rows, []string{"evicted " + i.String(), number(v.Evictions[i.String()])})
	}
	return t
}

func flowsCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "flows",
		Usage: "list live flows; as JSON, one in a line",
		Flags: []cli.Flag{
			command.Uint("limit", 0, "end after `N` flows; 0 lists all"),
			command.PinDirFlag(), command.OutputFlag(),
		},
		Action: func(c *cli.Context) error { return runFlows(c, w) },
	}
}

// flowFormat has the widest of what IPv4 has in its columns, because nobody
// waits for all flows before the first is printed.
const flowFormat = "%-20s %-8s %-21s %-21s %-21s %-11s %8s %8s\n"

func runFlows(c *cli.Context, w world) error {
	out := bufio.NewWriter(w.out)
	lines, asJSON, limit := json.NewEncoder(out), command.JSON(c), c.Uint("limit")
	title := func() {
		fmt.Fprintf(out, flowFormat, "SERVICE", "PROTOCOL", "CLIENT", "VIRTUAL", "BACKEND", "STATE", "IDLE", "LEFT")
	}
	n := uint(0)
	var printErr error
	err := w.flows(c.String("pin-dir"), func(f datapath.FlowView) bool {
		if n++; asJSON {
			printErr = lines.Encode(f)
		} else {
			if n == 1 {
				title()
			}
			_, printErr = fmt.Fprintf(out, flowFormat, f.Service, f.Protocol, f.Client, f.Virtual, f.Backend, f.State,
				fmt.Sprintf("%.1fs", f.Idle), fmt.Sprintf("%.1fs", f.Left))
		}
		return printErr == nil && c.Err() == nil && n != limit
	})
	if err != nil {
		return err
	}
	if n == 0 && !asJSON {
		title()
	}
	if err := cmp.Or(printErr, out.Flush()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return c.Err()
}
