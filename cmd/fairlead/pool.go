package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"github.com/urfave/cli/v2"

	"fairlead/client"
	"fairlead/cmd/internal/command"
	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/config"
)

func poolCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "pool",
		Usage: "list and change the pools of a running agent",
		Subcommands: []*cli.Command{
			{
				Name: "add", Usage: "add a pool and, with a pattern, the route that leads there",
				Description: "fairlead pool add --pattern /images/ --ip 10.0.0.1 --port 8080\n" +
					"fairlead pool add --pool api --pattern /api/ --backend 10.0.0.1:80 --backend 10.0.0.2:80\n" +
					"fairlead pool add --pool api --file api.yaml",
				Flags: remoteFlags(
					own("pool", "the pool is called `NAME`; without it, as the pattern is"),
					own("pattern", "requests that fit this `PATTERN`, such as /images/, go there"),
					own("service", "the pattern is of the HTTP service `NAME`; needed where there are several"),
					&cli.StringSliceFlag{Name: "backend", Usage: "the pool has this backend, `ADDRESS`: host:port or a URL; may be repeated"},
					own("ip", "the pool has one backend with this `ADDRESS`; with --port, in place of --backend"),
					own("port", "the backend has this `PORT`"),
					own("url_path", "the backend gets requests below this `PATH`; with --ip"),
					own("file", "the pool is as in `FILE`, which has its keys as the configuration has them"),
					forceFlag(), expectFlag(), command.OutputFlag(),
				),
				Action: remote(func(c *cli.Context, lb *client.Client) error { return addPool(c, w, lb) }),
			},
			{
				Name: "remove", Usage: "remove a pool and, with a pattern, the route that leads there",
				Flags:  remoteFlags(poolFlags(expectFlag(), command.OutputFlag())...),
				Action: remote(func(c *cli.Context, lb *client.Client) error { return removePool(c, w, lb) }),
			},
			{
				Name: "list", Usage: "list pools and how full they are",
				Flags:  remoteFlags(command.OutputFlag()),
				Action: remote(func(c *cli.Context, lb *client.Client) error { return listPools(c, w, lb) }),
			},
		},
	}
}

func addPool(c *cli.Context, w world, lb *client.Client) error {
	r := &adminpb.AddPoolRequest{
		Pool: c.String("pool"), Pattern: c.String("pattern"), Service: c.String("service"), Force: c.Bool("force"), Expect: c.Uint64("expect"),
	}
	if r.Pool == "" {
		if r.Pool = poolNamed(r.Pattern); r.Pool == "" {
			return command.Usagef("--pool is missing: name the pool")
		}
	}
	if err := fillPool(c, r); err != nil {
		return err
	}
	made, err := lb.AddPool(c.Context, r)
	if e := new(connect.Error); c.String("pool") == "" && errors.As(err, &e) && e.Code() == connect.CodeAlreadyExists && strings.HasPrefix(e.Message(), "pool ") {
		return command.Refused(fmt.Errorf("%s; the pattern gives that name: --pool gives another one", e.Message()))
	}
	if err != nil {
		return err
	}
	did := fmt.Sprintf("pool %s added", r.Pool)
	if r.Pattern != "" {
		did += ", for " + r.Pattern
	}
	return writeRevision(c, w, made, did)
}

// fillPool sets what is in a pool that is to be added.
func fillPool(c *cli.Context, r *adminpb.AddPoolRequest) error {
	file := c.String("file")
	r.Backends = c.StringSlice("backend")
	if len(r.Backends) > 0 && (hasParts(c) || file != "") || hasParts(c) && file != "" {
		return command.Usagef("--backend, --ip and --file exclude each other: give one")
	}
	switch {
	case file != "":
		data, err := config.ReadFile(file)
		if err != nil {
			return command.Usagef("--file: %w", err)
		}
		r.Spec = string(data)
	case len(r.Backends) == 0:
		one, err := joinParts(c)
		if err != nil {
			return err
		}
		r.Backends = []string{one}
	}
	return nil
}

// poolNamed returns a name for the pool of a pattern, "" if it has no letters.
func poolNamed(pattern string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(pattern))
	name = strings.Join(strings.FieldsFunc(name, func(r rune) bool { return r == '-' }), "-")
	const longest = 63
	return strings.TrimRight(name[:min(len(name), longest)], "-")
}

func removePool(c *cli.Context, w world, lb *client.Client) error {
	name, pattern := c.String("pool"), c.String("pattern")
	if name == "" {
		var err error
		if name, err = poolOf(c, lb); err != nil {
			return err
		}
	}
	made, err := lb.RemovePool(c.Context, &adminpb.RemovePoolRequest{Pool: name, Pattern: pattern, Service: c.String("service"), Expect: c.Uint64("expect")})
	if err != nil {
		return err
	}
	did := fmt.Sprintf("pool %s removed", name)
	if pattern != "" {
		did += ", and the route of " + pattern
	}
	return writeRevision(c, w, made, did)
}

func listPools(c *cli.Context, w world, lb *client.Client) error {
	list, err := lb.ListPools(c.Context, &adminpb.ListPoolsRequest{})
	if err != nil {
		return err
	}
	return write(c, w.out, list, func() error {
		var rows [][]string
		for _, p := range list.GetPools() {
			count := map[string]int{}
			for _, b := range p.GetBackends() {
				count[b.GetStatus()]++
			}
			row := []string{p.GetName(), strings.Join(p.GetServices(), ", "), p.GetStatus()}
			for _, status := range []string{"healthy", "unhealthy", "draining", "unknown"} {
				row = append(row, strconv.Itoa(count[status]))
			}
			rows = append(rows, row)
		}
		return command.WriteTable(w.out, []string{"POOL", "SERVICES", "STATUS", "HEALTHY", "UNHEALTHY", "DRAINING", "UNKNOWN"}, rows)
	})
}
