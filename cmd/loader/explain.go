package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/cmd/internal/command/status"
	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
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
	describe(&e.Packet, q)
	addAgent(e, w.agent(c.String("run-dir"), c.String("pin-dir")))
	if command.JSON(c) {
		return command.WriteJSON(w.out, e)
	}
	return writeExplanation(w.out, q, e)
}

// explain asks the instance in dir.
func explain(ctx context.Context, dir string, q loader.Question, iface string) (*datapath.Explanation, error) {
	inst, at, err := openAt(ctx, dir, q.From.Addr(), iface)
	if err != nil {
		return nil, err
	}
	defer inst.Close()
	x, err := datapath.NewExplainer(inst, q.From.Addr().Is6())
	if err != nil {
		return nil, err
	}
	defer x.Close()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := x.Explain(q, at)
	if err != nil {
		return nil, err
	}
	_, _, agent, err := loader.AgentRunning(dir)
	if err == nil && !agent {
		leaveAlone(e)
	}
	return e, err
}

// leaveAlone says that no agent runs, so that nobody serves what is the proxy's.
func leaveAlone(e *datapath.Explanation) {
	if e.Service != nil && e.Service.Rung == string(view.RungProxy) {
		e.Service.Rung, e.Service.Reason = string(status.RungNone), "it is the proxy's, and no agent runs"
	}
}

// openAt opens an instance, and finds where packets of a client come in. An upgrade
// waits until both are of one version, and no longer.
func openAt(ctx context.Context, dir string, client netip.Addr, iface string) (*loader.Instance, loader.Ingress, error) {
	var at loader.Ingress
	lock, err := loader.NewSharedLock(ctx, dir)
	if err != nil {
		return nil, at, err
	}
	inst, err := loader.Open(dir)
	if err == nil {
		at, err = inst.Ingress(iface, client)
	}
	if err = errors.Join(err, lock.Unlock()); err == nil {
		return inst, at, nil
	}
	if inst != nil {
		err = errors.Join(err, inst.Close())
	}
	return nil, at, err
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
	switch {
	case err != nil:
		return at, command.Usagef("--%s is %q: use ADDRESS:PORT, such as 203.0.113.10:80 or [2001:db8::10]:80", flag, text)
	case at.Port() == 0:
		return at, command.Usagef("--%s is %q: no packet has port 0, use 1 to 65535", flag, text)
	case at.Addr().Zone() != "":
		return at, command.Usagef("--%s is %q: say the interface with --interface, not behind the address", flag, text)
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

// describe adds to p what was asked about it.
func describe(p *datapath.PacketView, q loader.Question) {
	p.Protocol, p.Length = model.UDP, max(int(q.Length), q.Least())
	if q.UDP {
		return
	}
	p.Protocol = model.TCP
	for _, word := range []string{"fin", "syn", "rst", "psh", "ack"} {
		if q.Flags&flagBits[word] != 0 {
			p.Flags = append(p.Flags, word)
		}
	}
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
