package top

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/cmd/internal/command/status"
	"fairlead/loader"
	"fairlead/testenv/golden"
	"fairlead/testenv/leak"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/view"
)

func TestMain(m *testing.M) {
	if os.Getenv(childRole) != "" {
		os.Exit(child())
	}
	leak.Each(m).Run()
}

func counters(n uint64) datapath.Counters {
	return datapath.Counters{Flows: n, ForwardPackets: 10 * n, ForwardBytes: 1000 * n, ReplyPackets: 20 * n, ReplyBytes: 30_000 * n}
}

// countedAt returns an instance some seconds after it began to count.
func countedAt(second uint64, at time.Time) *kernel.View {
	return &kernel.View{
		Dir: "/sys/fs/bpf/fairlead", Mode: "on", OnAgentLoss: "keep", Flows: 12, FlowTable: 131072,
		View: datapath.View{
			At:       at,
			Verdicts: map[string]uint64{"forward_redirect": 330 * second, "drop_ttl": 2 * second, "drop_denied": second, "pass_other": 7},
			Services: []datapath.ServiceView{
				{
					Name: "web", Listen: "203.0.113.10:80-81", Protocol: "tcp", Rung: "xdp", Live: new(1003), Counters: counters(11 * second),
					Backends: []datapath.BackendView{
						{Address: "10.2.1.2:8080", State: "up", Weight: 1, Live: new(3), Counters: counters(second)},
						{Address: "10.2.1.3:8080", State: "down", Live: new(1000), Counters: counters(10 * second)},
					},
				},
				{
					Name: "dns\x1b[2J", Listen: "[2001:db8::10]:53", Protocol: "udp", Rung: "proxy", Counters: counters(0),
					Backends: []datapath.BackendView{{Address: "[2001:db8:1234:5678::1:2]:53", State: "drain"}},
				},
			},
		},
	}
}

// seconds returns an instance that counts, by the clock of a test's bubble.
func seconds(t *testing.T) func(string) (*kernel.View, error) {
	t.Helper()
	start := time.Now()
	return func(string) (*kernel.View, error) {
		return countedAt(100+uint64(time.Since(start).Seconds()), time.Now()), nil
	}
}

// nowhere is no agent elsewhere.
var nowhere = Elsewhere{Ask: func(*cli.Context) (func() (*status.Status, error), func(), error) { return nil, func() {}, nil }}

// run runs top in a bubble, with a view's directory.
func run(t *testing.T, inKernel func(string) (*kernel.View, error), runDir string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	app := command.App("prog", "test", &o, &e, Command(inKernel, time.Now, nowhere))
	code = command.Run(t.Context(), app, append([]string{"prog", "top", "--run-dir", runDir}, args...))
	return code, o.String(), e.String()
}

func TestBatch(t *testing.T) {
	for _, row := range []struct{ golden, args string }{
		{"batch.txt", "--batch --count 2 --interval 2s"},
		{"by-flows.txt", "--batch --count 1 --sort flows"},
		{"batch.json", "--batch --count 1 -o json"},
	} {
		t.Run(row.golden, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				code, out, errOut := run(t, seconds(t), dir, strings.Fields(row.args)...)
				if code != 0 || errOut != "" {
					t.Errorf("status %d, stderr %q", code, errOut)
				}
				golden.Check(t, row.golden, out)
			})
		})
	}
}

func TestTheAgentTellsRungsAndErrors(t *testing.T) {
	dir := t.TempDir()
	err := view.Write(dir, view.View{PinDir: "/sys/fs/bpf/fairlead", Services: []view.Service{
		{
			Name: "web", Listen: "203.0.113.10:80-81", Protocol: "tcp", Rung: view.RungGeneric, Reason: "eth0 is slow",
			Backends: []view.Backend{{Address: "10.2.1.3:8080", LastError: "refused", Latency: &view.Latency{Count: 3, Median: 0.001, P95: 0.002, P99: 0.003}}},
		},
		{Name: "new", Listen: "203.0.113.10:90", Protocol: "tcp", Rung: view.RungProxy, Backends: []view.Backend{{Address: "10.2.1.2:90", Weight: 1, Serves: true, Up: true}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	clock := func() time.Time { return now }
	top := &top{now: clock, ask: here("", dir, clock, func(string) (*kernel.View, error) { return countedAt(1, now), nil })}
	if err := top.start(); err != nil {
		t.Fatal(err)
	}
	s := top.sample()
	var got []string
	for _, v := range s.Services {
		got = append(got, fmt.Sprint(clean(v.Name), " ", v.Rung, " ", v.Reason))
		for _, b := range v.Backends {
			got = append(got, fmt.Sprint(b.Address, " ", b.State, " ", b.Error))
		}
	}
	want := []string{
		"dns [2J  ", "[2001:db8:1234:5678::1:2]:53 drain ", "new proxy ", "10.2.1.2:90 up ",
		"web xdp-generic eth0 is slow", "10.2.1.2:8080 up ", "10.2.1.3:8080 down refused",
	}
	if line := batchLines(s); !strings.Contains(line, "     1.000     2.000     3.000\n") {
		t.Errorf("no latency in\n%s", line)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
}

func TestRates(t *testing.T) {
	at := time.Now()
	read := func(second uint64, edit func(*kernel.View)) *top {
		v := countedAt(second, at.Add(time.Duration(second)*time.Second))
		if edit != nil {
			edit(v)
		}
		x := &top{now: time.Now, ask: here("", t.TempDir(), time.Now, func(string) (*kernel.View, error) { return v, nil })}
		x.last = x.read()
		return x
	}
	flows := func(s *Sample) (all []float64) {
		for _, v := range s.Services {
			if v.Name == "web" {
				for _, r := range []Row{s.Total, v.Row, v.Backends[0].Row} {
					all = append(all, rates(r).Flows)
				}
			}
		}
		return all
	}
	web := func(v *kernel.View) *datapath.ServiceView { return &v.Services[0] }
	for _, row := range []struct {
		name     string
		was, now func(*kernel.View)
		want     []float64
	}{
		{"steady", nil, nil, []float64{11, 11, 1}},
		{"ports were added", func(v *kernel.View) { web(v).Listen = "203.0.113.10:80" }, nil, []float64{11, 11, 1}},
		{"a new service began at zero", func(v *kernel.View) { v.Services = v.Services[1:] }, nil, []float64{77, 77, 7}},
		{"a new backend began at zero", func(v *kernel.View) { web(v).Backends = web(v).Backends[1:] }, nil, []float64{11, 11, 7}},
		{"a count that fell began again", func(v *kernel.View) { web(v).Backends[0].Counters = counters(1000) }, nil, []float64{11, 11, 7}},
		{"as did one whose bytes fell alone", func(v *kernel.View) { web(v).ReplyBytes = 1 << 40 }, nil, []float64{77, 77, 1}},
	} {
		got := flows(read(14, row.now).last.since(read(12, row.was).last))
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s: flows a second of all, the service, the backend (-want +got):\n%s", row.name, diff)
		}
	}
	if s := read(12, nil).last.since(nil); s.Seconds != 0 || s.Total.Rates != nil || s.Services[0].Rates != nil || s.Packets != nil {
		t.Errorf("a first sample has rates: %+v", s)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	notAttached := fmt.Errorf("open x: %w", loader.ErrNotAttached)
	privileges := fmt.Errorf("open x: %w", loader.ErrPrivileges)
	for _, row := range []struct {
		err  error
		args string
		code int
		want string
	}{
		{notAttached, "--batch", 1, "open x: not attached; loader status shows what is attached"},
		{privileges, "--batch", 1, privileges.Error()},
		{nil, "", 2, "standard output is no terminal: use --batch"},
		{nil, "-o json", 2, "--output json is for --batch: use both"},
		{nil, "--interval 1ms", 2, "--interval is 1ms: use a time of 100ms or more"},
		{nil, "--sort size", 2, `--sort is "size": use name, packets, bytes, new or flows`},
	} {
		look := func(string) (*kernel.View, error) { return countedAt(1, time.Now()), row.err }
		code, out, errOut := run(t, look, t.TempDir(), strings.Fields(row.args)...)
		if want := "prog: " + row.want + "\n"; code != row.code || out != "" || errOut != want {
			t.Errorf("%s: status %d, stdout %q, stderr %q; want %d, %q", row.args, code, out, errOut, row.code, want)
		}
	}
}

func TestItGoesOnWhenTheInstanceGoes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		there, n := seconds(t), 0
		look := func(dir string) (*kernel.View, error) {
			if n++; n == 2 {
				return nil, errors.Join(loader.ErrNotAttached)
			}
			return there(dir)
		}
		code, out, errOut := run(t, look, dir, "--batch", "--count", "3", "--sort", "flows")
		lines := strings.Split(out, "\n")
		if code != 0 || errOut != "" || len(lines) != 13 || !strings.HasSuffix(lines[1], "no rates: not attached") {
			t.Fatalf("status %d, stderr %q, stdout\n%s", code, errOut, out)
		}
		if first, next := strings.Fields(lines[2]), strings.Fields(lines[7]); first[5] != "-" || next[5] != "11.0" {
			t.Errorf("new flows a second after a gap: %s, then %s; want - and 11.0", first[5], next[5])
		}
	})
}
