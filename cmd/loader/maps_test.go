package main

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/loader"
	"fairlead/testenv/golden"
	"fairlead/userspace/datapath"
)

// checkVariables wants a variable named after each flag.
func checkVariables(t *testing.T, commands []*cli.Command) {
	t.Helper()
	for _, c := range commands {
		for _, f := range c.Flags {
			want := "FAIRLEAD_" + strings.ToUpper(strings.ReplaceAll(f.Names()[0], "-", "_"))
			d, ok := f.(cli.DocGenerationFlag)
			if !ok || !slices.Equal(d.GetEnvVars(), []string{want}) {
				t.Errorf("%s --%s lacks %s", c.Name, f.Names()[0], want)
			}
		}
		checkVariables(t, c.Subcommands)
	}
}

// held returns maps with two services; each verdict's count is its number.
func held(string) (*datapath.View, error) {
	counters := func(n uint64) datapath.Counters {
		return datapath.Counters{Flows: n, ForwardPackets: 10 * n, ForwardBytes: 100 * n, ReplyPackets: 20 * n, ReplyBytes: 200 * n,
			Troubles: datapath.Troubles{Unanswered: n + 1, Refused: n + 2, Resets: n + 3}}
	}
	v := &datapath.View{
		Services: []datapath.ServiceView{
			{
				Name: "web", Listen: "203.0.113.10:80", Protocol: "tcp", Rung: "xdp", Local: true, OnDown: "reset", Balance: "round-robin", Slots: 3, Connections: 6,
				Backends: []datapath.BackendView{
					{Address: "10.2.1.2:8080", State: "up", Weight: 3, Slots: 3, Connections: 5, Counters: counters(1)},
					{Address: "10.2.1.3:8080", State: "down", Weight: 2, Connections: 1, Counters: counters(2)},
				},
				Counters: counters(3),
			},
			{
				Name: "media", Listen: "203.0.113.11:8000-8100", Protocol: "udp", Rung: "proxy", OnDown: "keep", Balance: "least-connections",
				Backends: []datapath.BackendView{{Address: "10.2.1.5:*", State: "drain"}}, Counters: counters(4),
			},
		},
		Verdicts:  map[string]uint64{},
		Evictions: map[string]uint64{"unanswered": 7, "ended": 8, "silent": 9},
	}
	for i := range loader.Verdicts {
		v.Verdicts[i.String()] = uint64(i) % 3
	}
	return v, nil
}

// choosy returns maps with services that not everybody may use.
func choosy(string) (*datapath.View, error) {
	network := netip.MustParsePrefix
	service := func(name string, c *datapath.ClientsView) datapath.ServiceView {
		return datapath.ServiceView{
			Name: name, Listen: "203.0.113.10:80", Protocol: "tcp", Rung: "xdp", OnDown: "reset",
			Clients: c, Backends: []datapath.BackendView{},
		}
	}
	return &datapath.View{Services: []datapath.ServiceView{
		service("all", nil),
		service("listed", &datapath.ClientsView{
			Allow: []netip.Prefix{network("10.0.0.0/8"), network("198.51.100.0/24")},
			Deny:  []netip.Prefix{network("0.0.0.0/0"), network("10.1.0.0/16")},
			Limit: &datapath.LimitView{Rate: 100, Burst: 200, Prefix: 24},
		}),
		service("limited", &datapath.ClientsView{
			Allow: []netip.Prefix{}, Deny: []netip.Prefix{}, Limit: &datapath.LimitView{Rate: 1, Burst: 2, Prefix: 32},
		}),
	}}, nil
}

// wary returns maps with services that answer SYNs with cookies.
func wary(string) (*datapath.View, error) {
	service := func(name string, c *datapath.SYNCookiesView) datapath.ServiceView {
		return datapath.ServiceView{
			Name: name, Listen: "203.0.113.10:80", Protocol: "tcp", Rung: "xdp", OnDown: "reset",
			SYNCookies: c, Backends: []datapath.BackendView{},
		}
	}
	return &datapath.View{Services: []datapath.ServiceView{
		service("never", nil),
		service("above", &datapath.SYNCookiesView{Above: 5000, Standby: true}),
		service("alone", &datapath.SYNCookiesView{Above: 5000}),
	}}, nil
}

// zoned returns maps with services of which one has clients of zones.
func zoned(string) (*datapath.View, error) {
	service := func(name string, zones ...datapath.ZoneView) datapath.ServiceView {
		return datapath.ServiceView{
			Name: name, Listen: "203.0.113.10:80", Protocol: "tcp", Rung: "xdp", OnDown: "reset", Slots: 3,
			ClientZones: zones, Backends: []datapath.BackendView{},
		}
	}
	networks := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("198.51.100.0/24")}
	return &datapath.View{Services: []datapath.ServiceView{
		service("none"),
		service("two", datapath.ZoneView{Zone: "east", Slots: 2, Networks: networks}, datapath.ZoneView{Zone: "west", Networks: []netip.Prefix{}}),
	}}, nil
}

func TestMaps(t *testing.T) {
	empty := func(string) (*datapath.View, error) {
		return &datapath.View{Services: []datapath.ServiceView{}, Verdicts: map[string]uint64{}, Evictions: map[string]uint64{}}, nil
	}
	for _, row := range []struct {
		golden, args string
		rows         func(string) (*datapath.View, error)
	}{
		{"services.txt", "services", held},
		{"services.json", "services -o json", held},
		{"clients.txt", "services", choosy},
		{"clients.json", "services -o json", choosy},
		{"cookies.txt", "services", wary},
		{"cookies.json", "services -o json", wary},
		{"zones.txt", "services", zoned},
		{"zones.json", "services -o json", zoned},
		{"backends.txt", "backends", held},
		{"backends.json", "backends -o json", held},
		{"drops.txt", "drops", held},
		{"drops.json", "drops -o json", held},
		{"drops-all.txt", "drops --all", held},
		{"stats.txt", "stats", held},
		{"stats.json", "stats -o json", held},
		{"empty-services.txt", "services", empty},
		{"empty-services.json", "services -o json", empty},
		{"empty-backends.json", "backends -o json", empty},
		{"empty-drops.json", "drops -o json", empty},
	} {
		t.Run(row.golden, func(t *testing.T) {
			code, out, errOut := run(t, world{rows: row.rows}, append([]string{"maps"}, strings.Fields(row.args)...)...)
			if code != 0 || errOut != "" {
				t.Errorf("status %d, stderr %q", code, errOut)
			}
			golden.Check(t, row.golden, out)
		})
	}
}

// streams returns a flow table of n flows, which counts how many are asked for.
func streams(n int, asked *int) func(string, func(datapath.FlowView) bool) error {
	return func(_ string, f func(datapath.FlowView) bool) error {
		for *asked = 0; *asked < n; {
			*asked++
			if !f(datapath.FlowView{
				Service: "web", Protocol: "tcp", Client: client, Virtual: netip.MustParseAddrPort("203.0.113.10:80"),
				Backend: netip.MustParseAddrPort("10.2.1.2:8080"), State: "established", Idle: 0.25, Left: 7199.75,
			}) {
				break
			}
		}
		return nil
	}
}

func TestFlows(t *testing.T) {
	for _, row := range []struct {
		golden, args string
		flows, asked int
	}{
		{"flows.txt", "", 3, 3},
		{"flows.txt", "--limit 3", 1000, 3},
		{"flows.json", "-o json --limit 2", 1000, 2},
		{"empty-flows.txt", "", 0, 0},
		{"empty-flows.json", "-o json", 0, 0},
	} {
		asked := 0
		code, out, errOut := run(t, world{flows: streams(row.flows, &asked)}, append([]string{"maps", "flows"}, strings.Fields(row.args)...)...)
		if code != 0 || errOut != "" || asked != row.asked {
			t.Errorf("%s: status %d, stderr %q, %d flows asked for; want %d", row.args, code, errOut, asked, row.asked)
		}
		golden.Check(t, row.golden, out)
	}
}

var errFull = errors.New("no space left")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestFlowsEndWhenNobodyReads(t *testing.T) {
	var errOut strings.Builder
	asked := 0
	w := world{out: full{}, errOut: &errOut, flows: streams(100_000, &asked)}
	code := command.Run(t.Context(), newApp(w), []string{"loader", "maps", "flows"})
	if want := "loader: print: no space left\n"; code != 1 || errOut.String() != want || asked > 1000 {
		t.Errorf("status %d, stderr %q, %d flows asked for; want 1, %q", code, errOut.String(), asked, want)
	}
}
