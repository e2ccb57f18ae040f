package main

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/userspace/config"
	"fairlead/userspace/kernel"
	"fairlead/userspace/logfile"
	"fairlead/userspace/model"
)

const (
	// defaultConfig is read when nothing else says what to balance.
	defaultConfig = "/etc/fairlead/fairlead.yaml"
	// defaultPort is where HTTP is served, and defaultMetrics where metrics are
	// told of that, when nothing else says so.
	defaultPort    = "3000"
	defaultMetrics = "8080"
	// ownName is what messages call a configuration of flags.
	ownName = "command line"
)

// quickFlags define a service, in place of a file. --port and --servers have PORT
// and SERVERS as their variables, which count for less: see chosen.
func quickFlags() []cli.Flag {
	backends := &cli.StringSliceFlag{
		Name: "backend", Aliases: []string{"b"}, EnvVars: []string{"FAIRLEAD_BACKEND"},
		Usage: "without a file: forward HTTP requests to `URL`, which may be repeated",
	}
	most := command.String("max-connections", "", "with -b: send each backend at most `N` requests at once")
	most.Aliases = []string{"n"}
	return []cli.Flag{
		command.String("cacert", "", "with -b: TLS, with the chain of certificates in `FILE`, in PEM"),
		command.String("privkey", "", "with --cacert: the key of the certificate is in `FILE`, in PEM"),
		&cli.StringFlag{Name: "port", Aliases: []string{"p"}, Usage: "without a file: listen on `PORT` of all addresses; with -b 3000 if neither this nor the variable PORT says so"},
		&cli.StringSliceFlag{Name: "servers", Usage: "without a file: forward TCP connections to `HOST:PORT,...`; or the variable SERVERS"},
		backends, most,
		command.Bool("cache", "with -b: store answers, within the bounds that cache: true has"),
	}
}

// A choice is what to balance: by a file, or by flags and variables.
type choice struct {
	path    string        // of the file
	quick   *config.Quick // nil if there is a file
	ignored []string      // variables that are set and of no effect
}

// chosen returns what the command line and the environment ask for.
func chosen(c *cli.Context, w world) (choice, error) {
	given := givenOf(c)
	servers := words(c.StringSlice("servers"), "--servers")
	switch path := c.String("config"); {
	case path != "" && len(given) > 0:
		return choice{}, command.Usagef("%s and --config (or FAIRLEAD_CONFIG) exclude each other: name a file, or say by flags what to balance", given[0])
	case path != "":
		return choice{path: path, ignored: setOf(w, "PORT", "SERVERS")}, nil
	case c.IsSet("servers") && c.IsSet("backend"):
		return choice{}, command.Usagef("--servers and -b exclude each other: the one is for TCP, the other for HTTP")
	case c.IsSet("backend"):
		return quickHTTP(c, w)
	case len(servers) == 0:
		servers = words([]string{w.getenv("SERVERS")}, "SERVERS")
	}
	if len(servers) > 0 {
		return quickTCP(c, w, servers)
	}
	if len(given) > 0 {
		return choice{}, command.Usagef("%s needs somebody to forward to: add --servers HOST:PORT,... for TCP, or -b URL for HTTP", given[0])
	}
	if _, err := os.Stat(w.config); errors.Is(err, fs.ErrNotExist) {
		return choice{}, command.Usagef("nothing says what to balance: use --config, --servers or -b, or write %s; try fairlead run --help", w.config)
	}
	return choice{path: w.config, ignored: setOf(w, "PORT")}, nil
}

// givenOf returns the flags that define a service and are set.
func givenOf(c *cli.Context) (given []string) {
	for _, f := range quickFlags() {
		if name := f.Names()[0]; c.IsSet(name) {
			given = append(given, typed(f))
		}
	}
	return given
}

// typed returns a flag as it is documented.
func typed(f cli.Flag) string {
	if name := f.Names()[len(f.Names())-1]; name == "b" || name == "n" {
		return "-" + name
	}
	return "--" + f.Names()[0]
}

func setOf(w world, variables ...string) []string {
	return slices.DeleteFunc(variables, func(name string) bool { return w.getenv(name) == "" })
}

// words returns the parts of values, which stand between commas.
func words(values []string, from string) (all []config.Given) {
	for _, v := range values {
		for _, text := range strings.Split(v, ",") {
			if text = strings.TrimSpace(text); text != "" {
				all = append(all, config.Given{Text: text, From: from})
			}
		}
	}
	return all
}

func quickHTTP(c *cli.Context, w world) (choice, error) {
	q := &config.Quick{Port: portOf(c, w)}
	if q.Port.Text == "" {
		q.Port = config.Given{Text: defaultPort, From: "the default of --port"}
	}
	for _, v := range c.StringSlice("backend") {
		for _, text := range strings.Fields(v) {
			q.Backends = append(q.Backends, config.Given{Text: text, From: "-b"})
		}
	}
	if len(q.Backends) == 0 {
		return choice{}, command.Usagef("-b names no backend: give a URL, such as -b http://10.0.0.1:8080")
	}
	if n := c.String("max-connections"); n != "" {
		q.Connections = config.Given{Text: n, From: "-n"}
	}
	if cert, key := c.String("cacert"), c.String("privkey"); cert != "" && key != "" {
		q.Certificate, q.Key = config.Given{Text: cert, From: "--cacert"}, config.Given{Text: key, From: "--privkey"}
	} else if cert != "" || key != "" {
		return choice{}, command.Usagef("--cacert and --privkey belong together: name the files of both, the certificate and its key")
	}
	q.Cache = c.Bool("cache")
	return choice{quick: q, ignored: setOf(w, "SERVERS")}, nil
}

func quickTCP(c *cli.Context, w world, servers []config.Given) (choice, error) {
	for _, f := range quickFlags() {
		if name := f.Names()[0]; name != "port" && name != "servers" && c.IsSet(name) {
			return choice{}, command.Usagef("%s is for HTTP: use it with -b, not with servers", typed(f))
		}
	}
	q := &config.Quick{Port: portOf(c, w), Servers: servers}
	if q.Port.Text == "" {
		return choice{}, command.Usagef("--port is missing: give the port to listen on, or set PORT")
	}
	return choice{quick: q}, nil
}

// portOf returns the port that the flag names, or else the variable.
func portOf(c *cli.Context, w world) config.Given {
	if c.IsSet("port") {
		return config.Given{Text: c.String("port"), From: "--port"}
	}
	return config.Given{Text: w.getenv("PORT"), From: "PORT"}
}

// name is what messages call the configuration.
func (o *choice) name() string { return cmp.Or(o.path, ownName) }

// state returns the configuration.
func (o *choice) state(c *cli.Context, w world) (model.State, error) {
	if o.quick == nil {
		return command.StateOf(c, o.path, w.exists)
	}
	for _, name := range []string{"interface", "mode"} {
		if c.IsSet(name) {
			return model.State{}, command.Usagef("--%s (or %s) is for XDP, which needs a configuration file: remove it, or use --config", name, "FAIRLEAD_"+strings.ToUpper(name))
		}
	}
	o.quick.IPv6 = true
	state, err := o.quick.State()
	if err == nil && kernel.CheckIPv6(&state) != nil {
		o.quick.IPv6 = false
		state, err = o.quick.State()
	}
	if err != nil {
		return state, err
	}
	return state, o.checkMetrics(c, &state)
}

// metrics returns where metrics are told by flag, variable and the kind of service;
// "" leaves that to the configuration.
func (o *choice) metrics(c *cli.Context) string {
	text := c.String("metrics")
	if text == "" && o.quick != nil && len(o.quick.Backends) > 0 {
		text = defaultMetrics
	}
	addr, _ := config.Listener(text) // the flag's action has looked at it
	return addr
}

// checkMetrics finds one port that is to be two.
func (o *choice) checkMetrics(c *cli.Context, state *model.State) error {
	for i := range state.Services {
		s, flag, text := &state.Services[i], "--prometheus-port", cmp.Or(c.String("metrics"), defaultMetrics+", the default,")
		switch {
		case config.Clashes(o.metrics(c), s):
		case config.Clashes(webAt(c), s):
			flag, text = "--web", c.String("web")
		default:
			continue
		}
		return command.Usagef("%s %s and %s %s are one listener: change one of the two", o.quick.Port.From, o.quick.Port.Text, flag, text)
	}
	return nil
}

// metricsFlag says where Prometheus may ask.
func metricsFlag() cli.Flag {
	f := command.String("metrics", "", "tell metrics over HTTP at `ADDRESS`: a port, address:port or off")
	f.Aliases = []string{"prometheus-port"}
	f.DefaultText = "off; " + defaultMetrics + " with -b"
	f.Action = listenerAction("--prometheus-port")
	return f
}

// webFlag says where the page is.
func webFlag() cli.Flag {
	f := command.String("web", "", "show a page to browsers at `ADDRESS`: a port, address:port or off")
	f.DefaultText = "off"
	f.Action = listenerAction("--web")
	return f
}

// webAt returns where the page is by flag and variable; "" leaves that to the
// configuration.
func webAt(c *cli.Context) string {
	addr, _ := config.Listener(c.String("web")) // the flag's action has looked at it
	return addr
}

// listenerAction looks at where a flag has the agent listen.
func listenerAction(flag string) func(*cli.Context, string) error {
	return func(_ *cli.Context, text string) error {
		if _, err := config.Listener(text); err != nil {
			return command.Usagef("%s: %q %w", flag, text, err)
		}
		return nil
	}
}

// logFile returns the file that --logging-file or its variable names, or else the
// configuration; "" if none does.
func logFile(c *cli.Context, conf *model.Agent) string {
	return cmp.Or(c.String("logging-file"), conf.LogFile)
}

// openLog opens the file that the log is written to; nil if there is none.
func openLog(c *cli.Context, conf *model.Agent) (*logfile.File, error) {
	name := logFile(c, conf)
	if name == "" {
		return nil, nil
	}
	f, err := logfile.Open(name)
	if err != nil {
		return nil, command.Usagef("%w", err)
	}
	return f, nil
}
