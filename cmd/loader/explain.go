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
)

func explainCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "explain",
		Usage: "say what would become of a packet, and why; nothing changes",
		Flags: []cli.Flag{
			command.Choice("proto", "tcp", "the packet is of `PROTOCOL` tcp or udp", "tcp", "udp"),
			command.String("from", "", "it comes from `ADDRESS:PORT`"),
			command.String("to", "", "it goes to `ADDRESS:PORT`"),
			command.InterfaceFlag("it comes in by `NAME`, not by the interface to its sender"),
			command.String("flags", "syn", "it has these TCP `FLAGS`: of fin, syn, rst, psh and ack, with commas between"),
			command.Uint("ttl", 64, "its TTL, or hop limit, is `N`"),
			command.Uint("length", 0, "it has `N` bytes with its IP header; 0: nothing behind its headers"),
			command.PinDirFlag(), command.OutputFlag(),
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
	e, err := w.explain(c.String("pin-dir"), q, strings.Join(interfaces, ""))
	if err != nil {
		return err
	}
	if command.JSON(c) {
		return command.WriteJSON(w.out, e)
	}
	return writeExplanation(w.out, q, e)
}

// question reads the packet that is asked about.
func question(c *cli.Context) (q loader.Question, err error) {
	if q.From, err = endpoint(c, "from"); err != nil {
		return q, err
	}
	if q.To, err = endpoint(c, "to"); err != nil {
		return q, err
	}
	if q.From.Addr().Is4() != q.To.Addr().Is4() {
		return q, command.Usagef("--from %s and --to %s are of two families: use IPv4 or IPv6 for both", q.From, q.To)
	}
	q.UDP = c.String("proto") == "udp"
	if q.UDP && c.IsSet("flags") {
		return q, command.Usagef("--flags are TCP's: leave them out with --proto udp")
	}
	if q.Flags, err = tcpFlags(c.String("flags")); err != nil {
		return q, err
	}
	ttl, length := c.Uint("ttl"), c.Uint("length")
	if ttl > 255 {
		return q, command.Usagef("--ttl is %d: use 0 to 255", ttl)
	}
	if least := uint(q.Least()); length != 0 && length < least || length > maxLength {
		return q, command.Usagef("--length is %d: use %d to %d, or 0", length, least, maxLength)
	}
	q.TTL, q.Length = uint8(ttl), uint16(length)
	return q, nil
}

// maxLength is the longest packet that fits the one page of a dry run's frame.
const maxLength = 3000

func endpoint(c *cli.Context, flag string) (netip.AddrPort, error) {
	text := c.String(flag)
	if text == "" {
		return netip.AddrPort{}, command.Usagef("--%s is missing: say the packet's, as ADDRESS:PORT", flag)
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		return netip.AddrPort{}, command.Usagef("--%s is %q: use ADDRESS:PORT, such as 203.0.113.10:80 or [2001:db8::10]:80", flag, text)
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

var flagBits = map[string]uint8{
	"fin": loader.TCPFin, "syn": loader.TCPSyn, "rst": loader.TCPRst, "psh": loader.TCPPsh, "ack": loader.TCPAck,
}

func tcpFlags(text string) (flags uint8, err error) {
	for _, word := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return strings.ContainsRune(",|+", r) }) {
		bit, ok := flagBits[word]
		if !ok {
			return 0, command.Usagef("--flags has %q: use fin, syn, rst, psh and ack, with commas between", word)
		}
		flags |= bit
	}
	return flags, nil
}

// writeExplanation prints a line for each thing that there is to say.
func writeExplanation(out io.Writer, q loader.Question, e *datapath.Explanation) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(title, format string, a ...any) { fmt.Fprintf(t, "%s\t%s\n", title, fmt.Sprintf(format, a...)) }
	line("packet", "%s, in by %s", packetText(q), e.Packet.Interface)
	if s := e.Service; s != nil {
		line("service", "%s: %s %s", s.Name, s.Listen, s.Protocol)
	} else {
		line("service", "none")
	}
	switch {
	case e.Flow != nil:
		line("flow", "%s", flowText(e.Flow))
	case e.Service != nil:
		line("flow", "not known")
	}
	if e.ClientZone != nil {
		line("zone", "%s", zoneText(q.From.Addr(), *e.ClientZone))
	}
	if e.Choice != nil {
		writeChoice(line, e.Choice)
	}
	if o := e.Out; o != nil {
		line("leaves", "from %s to %s, TTL %d", endText(o.Source), endText(o.Destination), o.TTL)
		line("by", "%s, from %s to %s", o.Interface, o.SourceMAC, o.DestinationMAC)
	}
	line("verdict", "%s: %s", e.VerdictName, verdictWords[e.Verdict])
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func packetText(q loader.Question) string {
	proto := "UDP"
	if !q.UDP {
		proto = "TCP"
		for _, word := range []string{"fin", "syn", "rst", "psh", "ack"} {
			if q.Flags&flagBits[word] != 0 {
				proto += " " + strings.ToUpper(word)
			}
		}
	}
	return fmt.Sprintf("%s from %s to %s", proto, q.From, q.To)
}

// endText leaves out the port of ICMP, which has none.
func endText(at netip.AddrPort) string {
	if at.Port() == 0 {
		return at.Addr().String()
	}
	return at.String()
}
