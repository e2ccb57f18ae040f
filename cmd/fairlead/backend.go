package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"fairlead/client"
	"fairlead/cmd/internal/command"
	"fairlead/userspace/admin/adminpb"
)

// maxWeight is the heaviest that a backend can be.
const maxWeight = 1000

// expectFlag has a change be refused if another revision is in force.
func expectFlag() cli.Flag {
	return &cli.Uint64Flag{Name: "expect", Usage: "refuse unless revision `N` is in force", DefaultText: "any"}
}

// forceFlag takes backends that fail their check.
func forceFlag() cli.Flag {
	return &cli.BoolFlag{Name: "force", Usage: "take backends that fail their check"}
}

// poolFlags say which pool is meant.
func poolFlags(flags ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		own("pool", "the pool is called `NAME`; a service that lists backends itself has one of its name"),
		own("pattern", "the pool is the one that the route with this `PATTERN` leads to, such as /images/"),
		own("service", "the pattern is of the HTTP service `NAME`"),
	}, flags...)
}

// backendFlags say which backend of a pool is meant.
func backendFlags(flags ...cli.Flag) []cli.Flag {
	return poolFlags(append([]cli.Flag{
		own("backend", "the backend is `ADDRESS`: host:port, or a URL"),
		own("ip", "the backend has this `ADDRESS`; with --port, in place of --backend"),
		own("port", "the backend has this `PORT`"),
		own("url_path", "the backend gets requests below this `PATH`; with --ip"),
	}, flags...)...)
}

// backendArg returns the backend that is meant.
func backendArg(c *cli.Context) (string, error) {
	given := c.String("backend")
	switch {
	case given != "" && hasParts(c):
		return "", command.Usagef("--backend excludes --ip, --port and --url_path: give one or the others")
	case given != "":
		return given, nil
	}
	return joinParts(c)
}

// hasParts reports whether a backend is given in parts.
func hasParts(c *cli.Context) bool { return c.String("ip")+c.String("port")+c.String("url_path") != "" }

// joinParts returns the backend that is given in parts.
func joinParts(c *cli.Context) (string, error) {
	ip, port, path := c.String("ip"), c.String("port"), c.String("url_path")
	switch {
	case !hasParts(c):
		return "", command.Usagef("--backend is missing: name the backend, such as --backend 10.0.0.1:8080, or --ip 10.0.0.1 --port 8080")
	case ip == "":
		return "", command.Usagef("--ip is missing: name the backend's address, such as 10.0.0.1")
	case port == "":
		return "", command.Usagef("--port is missing: name the backend's port, such as 8080")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", command.Usagef("--port is %q: use a number from 1 to 65535", port)
	}
	address := net.JoinHostPort(strings.Trim(ip, "[]"), port)
	if path == "" {
		return address, nil
	}
	return "http://" + address + "/" + strings.TrimPrefix(path, "/"), nil
}

// poolOf returns the name of the pool that is meant.
func poolOf(c *cli.Context, lb *client.Client) (string, error) {
	name, pattern := c.String("pool"), c.String("pattern")
	switch {
	case name != "" && pattern != "":
		return "", command.Usagef("--pool and --pattern exclude each other: give one")
	case name != "":
		return name, nil
	case pattern == "":
		return "", command.Usagef("--pool is missing: name the pool, or the --pattern that leads to it; fairlead pool list shows those that there are")
	}
	return poolByPattern(c, lb, pattern)
}

// A routing is what a configuration says of where requests go.
type routing struct {
	Services []struct {
		Name   string
		Routes []struct {
			Match string
			Pool  string
			Split map[string]any
		}
	}
}

// poolByPattern finds where the route with a pattern leads.
func poolByPattern(c *cli.Context, lb *client.Client, pattern string) (string, error) {
	export, err := lb.Export(c.Context, &adminpb.ExportRequest{})
	if err != nil {
		return "", err
	}
	var r routing
	if err := yaml.Unmarshal([]byte(export.GetConfiguration()), &r); err != nil {
		return "", fmt.Errorf("read configuration of agent: %w", err)
	}
	var found []string
	for _, s := range r.Services {
		for _, route := range s.Routes {
			if oneLine(route.Match) != oneLine(pattern) || c.String("service") != "" && c.String("service") != s.Name {
				continue
			}
			if route.Pool == "" {
				return "", command.Usagef("--pattern %s leads to more than one pool: name one with --pool", pattern)
			}
			if !slices.Contains(found, route.Pool) {
				found = append(found, route.Pool)
			}
		}
	}
	switch len(found) {
	case 0:
		return "", command.Usagef("--pattern %s: no route has it; fairlead export shows those that there are", pattern)
	case 1:
		return found[0], nil
	}
	return "", command.Usagef("--pattern %s leads to the pools %s: name one with --pool, or the --service", pattern, strings.Join(found, ", "))
}

func backendCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "backend",
		Usage: "change the backends of a running agent",
		Subcommands: []*cli.Command{
			backendVerb(w, "add", "add a backend to a pool; it is probed first, and refused if it fails", addBackend,
				weightFlag("the backend has weight `N`, 0 to 1000", "1"), own("zone", "the backend is in `ZONE`"), forceFlag()),
			backendVerb(w, "remove", "remove a backend; its flows may go on for the service's drain", removeBackend),
			backendVerb(w, "weight", "set the weight of a backend", setWeight, weightFlag("the backend gets weight `N`, 0 to 1000; 0 drains", "none")),
			backendVerb(w, "drain", "let a backend get nothing new, whatever its weight", drainBackend),
			backendVerb(w, "undrain", "let a backend that was drained get its share again", undrainBackend),
		},
	}
}

func weightFlag(usage, initial string) cli.Flag {
	return &cli.UintFlag{Name: "weight", Usage: usage, DefaultText: initial, Action: func(_ *cli.Context, n uint) error {
		if n > maxWeight {
			return command.Usagef("--weight is %d: use 0 to %d", n, maxWeight)
		}
		return nil
	}}
}

// A backendChange is a change of one backend. It returns what it did, in words.
type backendChange = func(c *cli.Context, lb *client.Client, pool, backend string) (*adminpb.Revision, string, error)

func backendVerb(w world, name, usage string, change backendChange, flags ...cli.Flag) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, Flags: remoteFlags(backendFlags(append(flags, expectFlag(), command.OutputFlag())...)...),
		Action: remote(func(c *cli.Context, lb *client.Client) error {
			backend, err := backendArg(c)
			if err != nil {
				return err
			}
			pool, err := poolOf(c, lb)
			if err != nil {
				return err
			}
			made, did, err := change(c, lb, pool, backend)
			if err != nil {
				return err
			}
			return writeRevision(c, w, made, did)
		}),
	}
}

// writeRevision says what was done.
func writeRevision(c *cli.Context, w world, made *adminpb.Revision, did string) error {
	return write(c, w.out, made, func() error { return printf(w.out, "revision %d: %s\n", made.GetRevision(), did) })
}

func addBackend(c *cli.Context, lb *client.Client, pool, backend string) (*adminpb.Revision, string, error) {
	r := &adminpb.AddBackendRequest{Pool: pool, Backend: backend, Expect: c.Uint64("expect"), Force: c.Bool("force")}
	if c.IsSet("weight") {
		n := uint32(c.Uint("weight"))
		r.Weight = &n
	}
	if zone := c.String("zone"); zone != "" {
		spec, err := yaml.Marshal(map[string]string{"zone": zone})
		if err != nil {
			return nil, "", fmt.Errorf("write zone: %w", err)
		}
		r.Spec = string(spec)
	}
	made, err := lb.AddBackend(c.Context, r)
	return made, fmt.Sprintf("backend %s added to pool %s", backend, pool), err
}

func removeBackend(c *cli.Context, lb *client.Client, pool, backend string) (*adminpb.Revision, string, error) {
	made, err := lb.RemoveBackend(c.Context, &adminpb.RemoveBackendRequest{Pool: pool, Backend: backend, Expect: c.Uint64("expect")})
	return made, fmt.Sprintf("backend %s removed from pool %s", backend, pool), err
}

func setWeight(c *cli.Context, lb *client.Client, pool, backend string) (*adminpb.Revision, string, error) {
	if !c.IsSet("weight") {
		return nil, "", command.Usagef("--weight is missing: give a number from 0 to %d", maxWeight)
	}
	n := uint32(c.Uint("weight"))
	made, err := lb.SetWeight(c.Context, &adminpb.SetWeightRequest{Pool: pool, Backend: backend, Weight: &n, Expect: c.Uint64("expect")})
	return made, fmt.Sprintf("backend %s of pool %s has weight %d", backend, pool, n), err
}

func drainBackend(c *cli.Context, lb *client.Client, pool, backend string) (*adminpb.Revision, string, error) {
	made, err := lb.DrainBackend(c.Context, &adminpb.DrainBackendRequest{Pool: pool, Backend: backend, Expect: c.Uint64("expect")})
	return made, fmt.Sprintf("backend %s of pool %s drains", backend, pool), err
}

func undrainBackend(c *cli.Context, lb *client.Client, pool, backend string) (*adminpb.Revision, string, error) {
	made, err := lb.UndrainBackend(c.Context, &adminpb.UndrainBackendRequest{Pool: pool, Backend: backend, Expect: c.Uint64("expect")})
	return made, fmt.Sprintf("backend %s of pool %s drains no more", backend, pool), err
}
