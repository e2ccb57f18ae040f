package main

import (
	"bufio"
	"cmp"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"fairlead/client"
	"fairlead/cmd/internal/command"
	"fairlead/userspace/admin/adminpb"
)

// filterFlags say which flows are meant.
func filterFlags(flags ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		own("service", "those of the service `NAME`"),
		own("client", "those of the client `ADDRESS`: an address, address:port or network"),
		own("backend", "those with the backend `ADDRESS`: an address, address:port or network"),
		ownChoice("protocol", "those of `PROTOCOL` tcp or udp", "tcp", "udp"),
		ownChoice("path", "those that the `PATH` has: kernel or proxy", "kernel", "proxy"),
	}, flags...)
}

// ownChoice is [own] with one of some words as its value.
func ownChoice(name, usage string, words ...string) cli.Flag {
	f := command.Choice(name, "", usage, words...)
	f.EnvVars = nil
	return f
}

func filterOf(c *cli.Context) *adminpb.FlowFilter {
	return &adminpb.FlowFilter{
		Service: c.String("service"), Client: c.String("client"), Backend: c.String("backend"), Protocol: c.String("protocol"), Path: c.String("path"),
	}
}

func flowsCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "flows",
		Usage: "list a running agent's flows, those of the kernel and of the proxies; as JSON, one in a line",
		Flags: remoteFlags(filterFlags(
			&cli.UintFlag{Name: "limit", Usage: "end after `N` flows; 0 lists all"}, command.OutputFlag(),
		)...),
		Action: remote(func(c *cli.Context, lb *client.Client) error { return listFlows(c, w, lb) }),
	}
}

// flowFormat has the widest of what IPv4 has in its columns, because nobody waits for
// all flows before the first is printed.
const flowFormat = "%-20s %-8s %-6s %-21s %-21s %-21s %-11s %8s %8s\n"

func listFlows(c *cli.Context, w world, lb *client.Client) error {
	stream, err := lb.StreamFlows(c.Context, &adminpb.StreamFlowsRequest{Filter: filterOf(c), Limit: uint32(c.Uint("limit"))})
	if err != nil {
		return err
	}
	defer stream.Close()
	out := bufio.NewWriter(w.out)
	more := stream.Receive()
	if !command.JSON(c) && (more || stream.Err() == nil) {
		fmt.Fprintf(out, flowFormat, "SERVICE", "PROTOCOL", "PATH", "CLIENT", "VIRTUAL", "BACKEND", "STATE", "IDLE", "LEFT")
	}
	for ; more; more = stream.Receive() {
		for _, f := range stream.Msg().GetFlows() {
			if err := writeFlow(c, out, f); err != nil {
				return err
			}
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	if err := cmp.Or(stream.Err(), out.Flush()); err != nil {
		return err
	}
	return nil
}

func writeFlow(c *cli.Context, out *bufio.Writer, f *adminpb.Flow) error {
	if command.JSON(c) {
		line, err := jsonLine(f)
		if err != nil {
			return err
		}
		out.Write(append(line, '\n'))
		return nil
	}
	idle, left := "-", "-"
	if f.GetPath() == "kernel" {
		idle, left = fmt.Sprintf("%.1fs", f.GetIdleSeconds()), fmt.Sprintf("%.1fs", f.GetLeftSeconds())
	}
	fmt.Fprintf(out, flowFormat, f.GetService(), f.GetProtocol(), f.GetPath(), f.GetClient(), f.GetVirtual(), cmp.Or(f.GetBackend(), "-"), f.GetState(), idle, left)
	return nil
}

func killCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "kill",
		Usage: "end flows and connections of a running agent: TCP is reset, UDP begins anew",
		Flags: remoteFlags(filterFlags(
			&cli.BoolFlag{Name: "all", Usage: "end all flows; kill refuses to without, where no flag says which"}, command.OutputFlag(),
		)...),
		Action: remote(func(c *cli.Context, lb *client.Client) error {
			if !c.Bool("all") && !slices.ContainsFunc(filterFlags(), func(f cli.Flag) bool { return c.IsSet(f.Names()[0]) }) {
				return command.Usagef("nothing says which flows: use --service, --client, --backend, --protocol or --path, or --all")
			}
			killed, err := lb.KillFlows(c.Context, &adminpb.KillFlowsRequest{Filter: filterOf(c), All: c.Bool("all")})
			if err != nil {
				return err
			}
			return write(c, w.out, killed, func() error { return printf(w.out, "flows killed: %d\n", killed.GetKilled()) })
		}),
	}
}
