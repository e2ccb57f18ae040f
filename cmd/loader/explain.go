package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
)

func explainCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "explain",
		Usage: "say what would become of a packet, and why; nothing changes",
		Description: "Asks the attached program itself, so it needs root, but no agent: no flow is made and\n" +
			"nothing is counted. Where it says \"next would be\", another packet may come first.\n\n" +
			"loader explain --from 198.51.100.7:40000 --to 203.0.113.10:80\n" +
			"loader explain --proto udp --from [2001:db8::7]:40000 --to [2001:db8::10]:53",
		Flags: []cli.Flag{
			command.Choice("proto", "tcp", "the packet is of `PROTOCOL` tcp or udp", "tcp", "udp"),
			command.String("from", "", "it comes from `ADDRESS:PORT`, a client or a backend"),
			command.String("to", "", "it goes to `ADDRESS:PORT`"),
			command.InterfaceFlag("it comes in by `NAME`, not by the one that the route to its sender leads to"),
			command.String("flags", "syn", "it has these TCP `FLAGS`: of fin, syn, rst, psh and ack, with commas between"),
			command.Uint("ttl", 64, "its TTL, or hop limit, is `N`"),
			command.Uint("length", 0, "it has `N` bytes with its IP header; 0: nothing behind its headers"),
			command.PinDirFlag(), command.RunDirFlag(), command.OutputFlag(),
		},
		Action: func(c *cli.Context) error { return runExplain(c, w) },
	}
}

func runExplain(c *cli.Context, w world) error {
	q, err := question(c)
	if err != nil {
		return err
	}
	interfaces := command.Interfaces(c)
	if len(interfaces) > 1 {
		return command.Usagef("--interface names %d interfaces: a packet comes in by one", len(interfaces))
	}
	e, err := w.explain(c.Context, c.String("pin-dir"), q, strings.Join(interfaces, ""))
	if err != nil {
		return err
	}
	kernel.Describe(&e.Packet, q)
	kernel.AddAgent(e, w.agent(c.String("run-dir"), c.String("pin-dir")))
	if command.JSON(c) {
		return command.WriteJSON(w.out, e)
	}
	return writeExplanation(w.out, q, e)
}

// question reads the packet that is asked about.
func question(c *cli.Context) (loader.Question, error) {
	if c.String("proto") == "udp" && c.IsSet("flags") {
		return loader.Question{}, command.Usagef("--flags are TCP's: leave them out with --proto udp")
	}
	q, err := kernel.Asked{
		UDP: c.String("proto") == "udp", From: c.String("from"), To: c.String("to"), TTL: c.Uint("ttl"), Length: c.Uint("length"),
		Flags: strings.FieldsFunc(c.String("flags"), func(r rune) bool { return strings.ContainsRune(",|+", r) }),
	}.Question("--")
	if err != nil {
		return q, command.Usagef("%w", err)
	}
	return q, nil
}

// writeExplanation prints a line for each thing that there is to say.
func writeExplanation(out io.Writer, q loader.Question, e *datapath.Explanation) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(title, format string, a ...any) { fmt.Fprintf(t, "%s\t%s\n", title, fmt.Sprintf(format, a...)) }
	line("packet", "%s, in by %s", packetText(&e.Packet), e.Packet.Interface)
	switch s := e.Service; {
	case s != nil:
		line("service", "%s", serviceText(s))
		if words := servingText(e); words != "" && e.Choice != nil {
			line("serving", "%s", words)
		}
	case e.Flow != nil:
		line("service", "there no more")
	case e.Verdict == loader.LBVerdictPASS_OTHER:
		line("service", "%s", nearbyText(q, e.Nearby))
	}
	if e.Client != nil {
		line("client", "%s", clientText(e.Client))
	}
	if e.Service != nil || e.Flow != nil {
		line("flow", "%s", flowText(e))
	}
	if e.ClientZone != nil {
		line("zone", "%s", zoneText(q.From.Addr(), e))
	}
	if e.Choice != nil {
		writeChoice(line, e)
	}
	if o := e.Out; o != nil {
		line(outTitle(e), "%s", leavesText(e))
		line("", "out by %s, from MAC %s to %s", o.Interface, o.SourceMAC, o.DestinationMAC)
	}
	line("verdict", "%s", verdictText(e))
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// outTitle names what leaves: the packet, or the answer to it.
func outTitle(e *datapath.Explanation) string {
	if e.Verdict.Kind() == loader.KindAnswer {
		return "answer"
	}
	return "leaves"
}

func familyOf(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func packetText(p *datapath.PacketView) string {
	what := strings.Join(append([]string{string(p.Protocol)}, p.Flags...), " ")
	return fmt.Sprintf("%s from %s to %s", strings.ToUpper(what), p.Source, p.Destination)
}

// endText leaves out the port of ICMP, which has none.
func endText(at netip.AddrPort) string {
	if at.Port() == 0 {
		return at.Addr().String()
	}
	return at.String()
}
