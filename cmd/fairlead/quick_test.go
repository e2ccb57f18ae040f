package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/userspace/daemon"
	"fairlead/userspace/model"
)

// environment returns what os.Getenv would of these variables.
func environment(pairs string) func(string) string {
	all := map[string]string{}
	for _, p := range strings.Fields(pairs) {
		name, value, _ := strings.Cut(p, "=")
		all[name] = value
	}
	return func(name string) string { return all[name] }
}

// ran is what a command line has run.
type ran struct {
	daemon.Options
	state model.State
}

// runQuick runs fairlead run with a default configuration of one service.
func runQuick(t *testing.T, env string, args ...string) (r *ran, code int, errOut string) {
	t.Helper()
	w := world{
		getenv: environment(env), config: configFile(t, goodConfig),
		run: func(_ context.Context, o daemon.Options) error {
			r = &ran{Options: o}
			if o.Quick != nil {
				var err error
				r.state, err = o.Quick.State()
				return err
			}
			return nil
		},
	}
	code, _, errOut = run(t, t.Context(), w, append([]string{"run"}, args...)...)
	return r, code, errOut
}

// told returns listeners of IPv4 and backends of a state in one line.
func told(s *model.State) string {
	var words []string
	for _, g := range s.Groups() {
		if g.Listen.Addr().Is6() {
			continue // where the host has it
		}
		if g.Listen.IsValid() {
			words = append(words, g.Listen.String(), string(g.Forward))
		}
		for _, b := range g.Backends {
			words = append(words, b.Address.String())
		}
	}
	for i := range s.Pools {
		if n := s.Pools[i].MaxRequests; n > 0 {
			words = append(words, fmt.Sprint("at most ", n))
		}
	}
	return strings.Join(words, " ")
}

func TestQuickCommandLines(t *testing.T) {
	for _, row := range []struct{ name, env, args, want, metrics string }{
		{"TCP", "", "--port 8080 --servers 127.0.0.1:1,127.0.0.1:2", "0.0.0.0:8080 proxy 127.0.0.1:1 127.0.0.1:2", ""},
		{"one dash", "", "-port 8080 -servers 127.0.0.1:1", "0.0.0.0:8080 proxy 127.0.0.1:1", ""},
		{"servers in several flags", "", "-p 80 --servers 127.0.0.1:1, --servers 127.0.0.1:2", "0.0.0.0:80 proxy 127.0.0.1:1 127.0.0.1:2", ""},
		{"variables", "PORT=81 SERVERS=127.0.0.1:1,127.0.0.1:2", "", "0.0.0.0:81 proxy 127.0.0.1:1 127.0.0.1:2", ""},
		{"flags before variables", "PORT=81 SERVERS=127.0.0.1:1", "--port 82 --servers 127.0.0.1:3", "0.0.0.0:82 proxy 127.0.0.1:3", ""},
		{"a flag and a variable", "SERVERS=127.0.0.1:1", "--port 82", "0.0.0.0:82 proxy 127.0.0.1:1", ""},
		{"TCP with metrics", "", "--port 80 --servers 127.0.0.1:1 --prometheus-port 9100", "0.0.0.0:80 proxy 127.0.0.1:1", ":9100"},
		{"HTTP", "", "-b http://127.0.0.1:1 -b http://127.0.0.1:2", "0.0.0.0:3000 http 127.0.0.1:1 127.0.0.1:2", ":8080"},
		{"HTTP with all", "", "-p 443 --backend http://127.0.0.1:1 -n 7 -prometheus-port 127.0.0.1:9100", "0.0.0.0:443 http 127.0.0.1:1 at most 7", "127.0.0.1:9100"},
		{"HTTP at PORT", "PORT=80", "-b http://127.0.0.1:1 --metrics off", "0.0.0.0:80 http 127.0.0.1:1", "off"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, code, errOut := runQuick(t, row.env, strings.Fields(row.args)...)
			if code != 0 || errOut != "" {
				t.Fatalf("status %d, %s", code, errOut)
			}
			got := told(&r.state)
			if got != row.want || r.Metrics != row.metrics || r.Config != ownName {
				t.Errorf("%s, metrics %q of %q; want %s, %q", got, r.Metrics, r.Config, row.want, row.metrics)
			}
		})
	}
}

func TestAFileIsReadWhereNothingElseSaysWhat(t *testing.T) {
	for _, row := range []struct{ name, env, log string }{
		{"nothing", "", ""},
		{"only a port", "PORT=80", `msg="variable ignored" variable=PORT config=`},
	} {
		r, code, errOut := runQuick(t, row.env)
		if code != 0 || r.Quick != nil || filepath.Base(r.Config) != "f.yaml" || !strings.Contains(errOut, row.log) || row.log == "" && errOut != "" {
			t.Errorf("%s: status %d, %q; %s", row.name, code, r.Config, errOut)
		}
	}
	path := configFile(t, goodConfig)
	r, code, errOut := runQuick(t, "PORT=80 SERVERS=127.0.0.1:1", "--config", path)
	for _, want := range []string{"variable=PORT config=" + path, "variable=SERVERS config=" + path} {
		if code != 0 || r.Quick != nil || r.Config != path || !strings.Contains(errOut, want) {
			t.Errorf("status %d, %q, want %s in\n%s", code, r.Config, want, errOut)
		}
	}
	if _, code, errOut := runQuick(t, "SERVERS=127.0.0.1:1", "-b", "http://127.0.0.1:1"); code != 0 || !strings.Contains(errOut, `variable=SERVERS config="command line"`) {
		t.Errorf("status %d, %s", code, errOut)
	}
}

func TestWrongQuickCommandLines(t *testing.T) {
	path := configFile(t, goodConfig)
	for _, row := range []struct{ env, args, want string }{
		{"", "--servers 127.0.0.1:1 -b http://127.0.0.1:1", "--servers and -b exclude each other: the one is for TCP, the other for HTTP"},
		{"", "--port 80 --config FILE", "--port and --config (or FAIRLEAD_CONFIG) exclude each other: name a file, or say by flags what to balance"},
		{"", "--servers 127.0.0.1:1 --config FILE", "--servers and --config"},
		{"", "-b http://127.0.0.1:1 --config FILE", "-b and --config"},
		{"", "-n 1 --config FILE", "-n and --config"},
		{"", "--port 80", "--port needs somebody to forward to: add --servers HOST:PORT,... for TCP, or -b URL for HTTP"},
		{"PORT=80", "-n 7", "-n needs somebody to forward to"},
		{"", "--servers 127.0.0.1:1", "--port is missing: give the port to listen on, or set PORT"},
		{"SERVERS=127.0.0.1:1", "--port 80 -n 7", "-n is for HTTP: use it with -b, not with servers"},
		{"", "-b http://127.0.0.1:1 -cacert f", "--cacert and --privkey belong together: name the files of both, the certificate and its key"},
		{"", "-b http://127.0.0.1:1 -privkey f", "--cacert and --privkey belong together"},
		{"", "-b http://127.0.0.1:1 -cacert /no/f -privkey /no/g", "--cacert and --privkey: "},
		{"", "-b http://127.0.0.1:1 --interface lo", "--interface (or FAIRLEAD_INTERFACE) is for XDP, which needs a configuration file: remove it, or use --config"},
		{"", "-b http://127.0.0.1:1 --mode generic", "--mode (or FAIRLEAD_MODE) is for XDP, which needs a configuration file: remove it, or use --config"},
		{"", "--port 80 --servers 127.0.0.1:1 -i lo", "--interface (or FAIRLEAD_INTERFACE) is for XDP"},
		{"", "-cache --config FILE", "--cache and --config"},
		{"", "-cache --port 80 --servers 127.0.0.1:1", "--cache is for HTTP: use it with -b, not with servers"},
		{"", "-cacert f --config FILE", "--cacert and --config"},
		{"", "-privkey f --port 80 --servers 127.0.0.1:1", "--privkey is for HTTP: use it with -b, not with servers"},
		{"", "--port x --servers 127.0.0.1:1", `--port: "x" is not a port: use a number from 1 to 65535`},
		{"PORT=x", "--servers 127.0.0.1:1", `PORT: "x" is not a port: use a number from 1 to 65535`},
		{"PORT=80 SERVERS=127.0.0.1", "", `SERVERS: "127.0.0.1" has no port`},
		{"", "-b 127.0.0.1:1", `-b: "127.0.0.1:1" is not a URL`},
		{"", "-b ,", `-b: "," is not a URL`},
		{"", "-b http://127.0.0.1:81 -p 81 -prometheus-port off", `-b: "http://127.0.0.1:81" is service "quick" itself: use the address of a server`},
		{"", "-b http://127.0.0.1:1 -n x", `-n: "x" is not a number from 1 to 1000000`},
		{"", "-b http://127.0.0.1:1 -p 8080", "--port 8080 and --prometheus-port 8080, the default, are one listener: change one of the two"},
		{"PORT=9100", "-b http://127.0.0.1:1 -prometheus-port 9100", "PORT 9100 and --prometheus-port 9100 are one listener: change one of the two"},
		{"", "-b http://127.0.0.1:1 -prometheus-port 127.0.0.1:3000", "the default of --port 3000 and --prometheus-port 127.0.0.1:3000 are one listener: change one of the two"},
		{"", "--config FILE --prometheus-port x", `--prometheus-port: "x" is neither a port, an address and port, nor off: write it like 8080, 127.0.0.1:8080 or off`},
		{"", "--config FILE --logging-file /nonexistent/log", "open log: open /nonexistent/log: no such file or directory"},
	} {
		r, code, errOut := runQuick(t, row.env, strings.Fields(strings.ReplaceAll(row.args, "FILE", path))...)
		if code != 2 || r != nil || !strings.HasPrefix(errOut, "fairlead: "+row.want) || strings.Count(errOut, "\n") != 1 {
			t.Errorf("%s %s: status %d, %s\nwant %s", row.env, row.args, code, errOut, row.want)
		}
	}
	if r, code, errOut := runQuick(t, "", "-b", " "); code != 2 || r != nil || errOut != "fairlead: -b names no backend: give a URL, such as -b http://10.0.0.1:8080\n" {
		t.Errorf("no URL: status %d, %s", code, errOut)
	}
	w := world{getenv: environment("PORT=80")}
	if code, _, errOut := run(t, t.Context(), w, "run"); code != 2 || !strings.Contains(errOut, "nothing says what to balance") {
		t.Errorf("status %d, %s", code, errOut)
	}
}

// TestTheProcessBeforeLearnsWhy a successor does not come to run.
func TestTheProcessBeforeLearnsWhy(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	if err := unix.SetNonblock(pair[0], true); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FAIRLEAD_HANDOVER", fmt.Sprint(pair[1])) // closed by who goes by it
	if code, _, _ := run(t, t.Context(), world{}, "run", "--config", configFile(t, "bogus: 1\n"+goodConfig)); code != 2 {
		t.Errorf("status %d", code)
	}
	said := make([]byte, 2000)
	n, err := unix.Read(pair[0], said)
	if err != nil || !strings.Contains(string(said[:max(0, n)]), ":1:1: bogus: unknown key") {
		t.Errorf("%v: %s", err, said[:max(0, n)])
	}
}

// Flags win over variables, and those over the file.
func TestSettingsOfTheProcess(t *testing.T) {
	dir := t.TempDir()
	logs := func(name string) string { return filepath.Join(dir, name) }
	path := configFile(t, "agent: {pin-dir: /file, run-dir: /file, state-dir: /file, metrics: 1, logging-file: "+logs("file")+"}\n"+goodConfig)
	settings := func(want, wantMetrics string, args ...string) {
		t.Helper()
		r, code, errOut := runQuick(t, "PORT=80", append([]string{"--config", path}, args...)...)
		if code != 0 || errOut != "" {
			t.Fatalf("status %d, %s", code, errOut)
		}
		runDir := want
		if want == "/file" {
			runDir = "" // the agent reads it
		}
		if r.PinDir != want || r.StateDir != want || r.RunDir != runDir || r.Metrics != wantMetrics {
			t.Errorf("%q, %q, %q, want %q, %q", r.PinDir, r.RunDir, r.Metrics, want, wantMetrics)
		}
		log, err := os.ReadFile(logs(strings.TrimPrefix(want, "/")))
		if err != nil || !strings.Contains(string(log), "variable ignored") {
			t.Errorf("log %q, %v", log, err)
		}
	}
	settings("/file", "")
	for name, value := range map[string]string{"PIN_DIR": "/env", "RUN_DIR": "/env", "STATE_DIR": "/env", "METRICS": "2", "LOGGING_FILE": logs("env")} {
		t.Setenv("FAIRLEAD_"+name, value)
	}
	settings("/env", ":2")
	settings("/flag", ":3", "--pin-dir", "/flag", "--run-dir", "/flag", "--state-dir", "/flag", "--metrics", "3", "--logging-file", logs("flag"))
}
