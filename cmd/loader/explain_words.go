package main

import (
	"fmt"
	"net/netip"
	"strings"

	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// verdictWords say what becomes of a packet. Every verdict has some.
var verdictWords = [loader.Verdicts]string{
	loader.LBVerdictPASS_OFF:             "left to this host: Fairlead is switched off (loader status)",
	loader.LBVerdictPASS_OTHER:           "left to this host: it is for no service, and of no flow",
	loader.LBVerdictPASS_FRAGMENT:        "left to this host: a fragment that is not balanced",
	loader.LBVerdictPASS_OPTIONS:         "left to this host: it has IP options",
	loader.LBVerdictPASS_VLAN:            "left to this host: it has a VLAN tag",
	loader.LBVerdictPASS_ICMP:            "left to this host: ICMP that is about no flow",
	loader.LBVerdictPASS_MALFORMED:       "left to this host: it has no ports that could be read",
	loader.LBVerdictPASS_PROXY:           "left to this host, where the proxy of the agent (fairlead run) serves it",
	loader.LBVerdictPASS_DRAINING:        "left to this host: Fairlead is being detached, and new flows are the proxy's already",
	loader.LBVerdictPASS_NO_FLOW:         "left to this host: it is no SYN, so it begins no flow, and it is of none that is known here",
	loader.LBVerdictPASS_STANDBY:         "left to this host: the proxy of the agent has this flow",
	loader.LBVerdictFORWARD_REDIRECT:     "sent on",
	loader.LBVerdictFORWARD_TX:           "sent on, by the interface that it came from",
	loader.LBVerdictANSWER_RESET:         "answered with a TCP reset",
	loader.LBVerdictANSWER_UNREACHABLE:   "answered with ICMP port unreachable: no backend can serve",
	loader.LBVerdictDROP_MALFORMED:       "dropped: its lengths contradict each other",
	loader.LBVerdictDROP_TTL:             "dropped: its TTL is used up",
	loader.LBVerdictDROP_SOURCE:          "dropped: its source is no client's: this host's own address, loopback, multicast or broadcast",
	loader.LBVerdictDROP_NO_ROUTE:        "dropped: there is no route to where it should go, or back to its sender",
	loader.LBVerdictDROP_NO_NEIGHBOUR:    "dropped: the next hop has not told its MAC address (ip neigh)",
	loader.LBVerdictDROP_DEVICE:          "dropped: the way out is an interface that XDP cannot send by",
	loader.LBVerdictDROP_NO_BACKEND:      "dropped: no backend can serve, and no answer is allowed",
	loader.LBVerdictDROP_TUPLE_TAKEN:     "dropped: other flows have all ports that it could get towards the backend",
	loader.LBVerdictDROP_TABLE_FULL:      "dropped: the flow table has no place for it (flow-table)",
	loader.LBVerdictDROP_NO_FLOW:         "dropped: it is no SYN, so it begins no flow, it is of none that is known, and its address is not on this host",
	loader.LBVerdictDROP_FLOW_ENDED:      "dropped: its flow has ended",
	loader.LBVerdictDROP_REPLY_LIMIT:     "dropped: a reset is due, but this second has had as many answers as it may (reply-limit)",
	loader.LBVerdictDROP_TOO_BIG:         "dropped: it is longer than the MTU of its way out",
	loader.LBVerdictDROP_ICMP:            "dropped: an error about a packet that no flow has sent",
	loader.LBVerdictDROP_DENIED:          "dropped: the service does not allow this client (clients: allow, deny)",
	loader.LBVerdictDROP_SOURCE_LIMIT:    "dropped: the client's network opens more connections than it may (clients: limit)",
	loader.LBVerdictANSWER_TOO_BIG:       "answered with ICMP: it is longer than the MTU of its way out",
	loader.LBVerdictANSWER_ECHO:          "answered: a ping",
	loader.LBVerdictPASS_COOKIE:          "left to this host: part of a flood that is answered with SYN cookies",
	loader.LBVerdictANSWER_COOKIE:        "answered with a SYN cookie: there are more SYNs a second than syn-cookies: above; who brings it back gets the proxy",
	loader.LBVerdictDROP_COOKIE:          "dropped: no SYN, no flow and no cookie, while SYNs are answered with cookies",
	loader.LBVerdictHOLD_FRAGMENT:        "offered to the agent, which may hold it until its first fragment comes",
	loader.LBVerdictDROP_FRAGMENT:        "dropped: its first fragment was, or has not come",
	loader.LBVerdictANSWER_TIME_EXCEEDED: "answered with ICMP time exceeded: its TTL is used up",
	loader.LBVerdictDROP_FAMILY:          "dropped: what it is cannot be said in the family (IPv4, IPv6) of the backend",
}

// verdictText says what becomes of a packet, and why if the verdict alone does not.
func verdictText(e *datapath.Explanation) string {
	text := e.VerdictName + ": " + verdictWords[e.Verdict]
	switch {
	case e.Verdict == loader.LBVerdictPASS_PROXY && e.Service != nil && e.Service.Rung == string(view.RungNone):
		return e.VerdictName + ": left to this host, where nobody serves it: it is the proxy's, and no agent runs"
	case e.Verdict == loader.LBVerdictPASS_PROXY && e.Client != nil && !e.Client.Allowed:
		return e.VerdictName + ": left to this host, where the proxy of the agent (fairlead run) refuses the client"
	case e.Verdict != loader.LBVerdictANSWER_RESET:
		return text
	}
	if e.Flow == nil || e.Flow.Anew {
		return text + ": no backend can serve"
	}
	return text + ": its flow has ended"
}

// tryWords say why a try is not the last one, by verdict.
var tryWords = map[string]string{
	loader.LBVerdictDROP_NO_BACKEND.String():   "nobody is there who could serve",
	loader.LBVerdictDROP_TUPLE_TAKEN.String():  "other flows have all ports towards it",
	loader.LBVerdictDROP_NO_NEIGHBOUR.String(): "its next hop has not told its MAC address",
	loader.LBVerdictDROP_NO_ROUTE.String():     "there is no route to it",
	loader.LBVerdictDROP_DEVICE.String():       "XDP cannot send by the interface towards it",
}

// servingWords say whose services are not served by those who should.
var servingWords = map[model.Serving]string{
	model.ServingPanic:   "all backends, down or not: too few are up (panic-threshold)",
	model.ServingBackups: "the backups: no other backend can serve",
	model.ServingNone:    "nobody: every backend is down or draining",
}

// servingText says which backends serve clients of the packet's zone.
func servingText(e *datapath.Explanation) string {
	switch {
	case e.Service.Serving != model.ServingZone:
		return servingWords[e.Service.Serving]
	case e.ClientZone != nil && *e.ClientZone != "":
		return "the backends of the client's zone alone"
	}
	return "the backends of this host's zone alone"
}

// homeText names this host's zone, as far as an agent tells it.
func homeText(e *datapath.Explanation) string {
	if e.Service == nil || e.Service.Zone == "" {
		return "this host's zone"
	}
	return "this host's zone, " + e.Service.Zone
}

// checkWords say what a packet finds out about its flow's service and backend.
var checkWords = map[string]string{
	"":     "",
	"fit":  "",
	"down": "; its backend is down",
	"gone": "; its service or backend is there no more",
}

func serviceText(s *datapath.ExplainedService) string {
	text := fmt.Sprintf("%s: %s %s", s.Name, s.Protocol, s.Listen)
	switch s.Rung {
	case string(view.RungProxy):
		text += ", which the proxy serves"
	case string(view.RungNone):
		text += ", which nobody serves"
	}
	if s.Reason != "" {
		text += " (" + strings.ReplaceAll(s.Reason, "\n", "; ") + ")"
	}
	return text
}

func zoneText(client netip.Addr, e *datapath.Explanation) string {
	if *e.ClientZone == "" {
		return fmt.Sprintf("client %s is in none of the service's client-zones: served as from %s", client, homeText(e))
	}
	return fmt.Sprintf("client %s is in zone %s", client, *e.ClientZone)
}

// nearbyText says what the address has instead of what was asked for.
func nearbyText(q loader.Question, nearby []datapath.ExplainedService) string {
	const most = 3
	proto := "tcp"
	if q.UDP {
		proto = "udp"
	}
	if len(nearby) == 0 {
		return "none: no service has the address " + q.To.Addr().String()
	}
	var have []string
	for i := range nearby[:min(most, len(nearby))] {
		have = append(have, fmt.Sprintf("%s (%s %s)", nearby[i].Name, nearby[i].Protocol, nearby[i].Listen))
	}
	text := fmt.Sprintf("none at %s %s; the address has %s", proto, q.To, strings.Join(have, ", "))
	if more := len(nearby) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func clientText(c *datapath.ExplainedClient) string {
	var parts []string
	switch {
	case c.Rule != nil && c.Rule.Bits() == 0 && c.Allowed:
		parts = append(parts, "allowed, as everybody who is not denied")
	case c.Rule != nil && c.Rule.Bits() == 0, c.Rule == nil && !c.Allowed:
		parts = append(parts, "denied, as everybody who is not allowed")
	case c.Rule != nil && c.Allowed:
		parts = append(parts, "allowed, as "+c.Rule.String())
	case c.Rule != nil:
		parts = append(parts, "denied, as "+c.Rule.String())
	}
	if l := c.Limit; l != nil {
		parts = append(parts, fmt.Sprintf("its network of /%d may open %d a second, and %d at once", l.Prefix, l.Rate, l.Burst))
	}
	return strings.Join(parts, "; ")
}

func flowText(e *datapath.Explanation) string {
	f := e.Flow
	switch {
	case f != nil:
	case e.Out != nil && e.Verdict.Kind() == loader.KindForward, isTooBig(e):
		return "new: this packet would make it"
	default:
		return "none is known"
	}
	way := "to"
	if f.Direction == "reply" {
		way = "from"
	}
	backend := "backend " + f.Backend
	if f.Backend == "" {
		backend = "a backend that is gone"
	}
	text := fmt.Sprintf("known, %s, %s %s; last packet %.1fs ago, forgotten after %.0fs%s", f.State, way, backend, f.Idle, f.Limit, checkWords[f.Check])
	if f.Anew {
		text += "; this packet begins another one"
	}
	return text
}

// isTooBig reports whether a backend was found, but the packet does not fit the
// way there: who sends it again, in parts, finds its flow.
func isTooBig(e *datapath.Explanation) bool {
	return e.Choice != nil && len(e.Choice.Tries) > 0 && (e.Verdict == loader.LBVerdictANSWER_TOO_BIG || e.Verdict == loader.LBVerdictDROP_TOO_BIG)
}

// leavesText tells the packet as it leaves, or the answer to it.
func leavesText(e *datapath.Explanation) string {
	o := e.Out
	text := fmt.Sprintf("from %s to %s, TTL %d", endText(o.Source), endText(o.Destination), o.TTL)
	if from, to := familyOf(e.Packet.Source.Addr()), familyOf(o.Source.Addr()); from != to {
		text += fmt.Sprintf(", translated from %s to %s", from, to)
	}
	if hidesClient(e) {
		text += "; the backend sees this host instead of the client (full NAT)"
	}
	return text
}

// hidesClient reports whether a packet leaves for a backend with another source.
func hidesClient(e *datapath.Explanation) bool {
	return e.Verdict.Kind() == loader.KindForward && e.Service != nil && e.Service.FullNAT && (e.Flow == nil || e.Flow.Direction == "forward")
}
