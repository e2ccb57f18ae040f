package main

import (
	"fmt"
	"net/netip"

	"fairlead/loader"
	"fairlead/userspace/datapath"
)

// verdictWords say what becomes of a packet. Every verdict has some.
var verdictWords = [loader.Verdicts]string{
	loader.LBVerdictPASS_OFF:             "left to this host: the switch is off",
	loader.LBVerdictPASS_OTHER:           "left to this host: it is for no service",
	loader.LBVerdictPASS_FRAGMENT:        "left to this host: a fragment that is not balanced",
	loader.LBVerdictPASS_OPTIONS:         "left to this host: it has IP options",
	loader.LBVerdictPASS_VLAN:            "left to this host: it has a VLAN tag",
	loader.LBVerdictPASS_ICMP:            "left to this host: ICMP that is about no flow",
	loader.LBVerdictPASS_MALFORMED:       "left to this host: it has no ports that could be read",
	loader.LBVerdictPASS_PROXY:           "left to this host: the service is the user-space proxy's",
	loader.LBVerdictPASS_DRAINING:        "left to this host: while draining, new flows are the proxy's",
	loader.LBVerdictPASS_NO_FLOW:         "left to this host: no SYN, and no flow is known",
	loader.LBVerdictPASS_STANDBY:         "left to this host: the flow is the standby proxy's",
	loader.LBVerdictFORWARD_REDIRECT:     "sent on",
	loader.LBVerdictFORWARD_TX:           "sent on, by the interface that it came from",
	loader.LBVerdictANSWER_RESET:         "answered with a TCP reset",
	loader.LBVerdictANSWER_UNREACHABLE:   "answered with ICMP port unreachable: there is no backend",
	loader.LBVerdictDROP_MALFORMED:       "dropped: its lengths contradict each other",
	loader.LBVerdictDROP_TTL:             "dropped: its TTL is used up",
	loader.LBVerdictDROP_SOURCE:          "dropped: no client can have its source",
	loader.LBVerdictDROP_NO_ROUTE:        "dropped: there is no route to where it should go, or back",
	loader.LBVerdictDROP_NO_NEIGHBOUR:    "dropped: the MAC address of the next hop is not known",
	loader.LBVerdictDROP_DEVICE:          "dropped: the way out is an interface that XDP cannot send by",
	loader.LBVerdictDROP_NO_BACKEND:      "dropped: there is no backend, and no answer is allowed",
	loader.LBVerdictDROP_TUPLE_TAKEN:     "dropped: other flows have all ports that it could get",
	loader.LBVerdictDROP_TABLE_FULL:      "dropped: the flow table has no place for it",
	loader.LBVerdictDROP_NO_FLOW:         "dropped: no SYN, no flow is known, and the address is not on this host",
	loader.LBVerdictDROP_FLOW_ENDED:      "dropped: its flow has ended",
	loader.LBVerdictDROP_REPLY_LIMIT:     "dropped: a reset is due, but this second has had as many answers as it may",
	loader.LBVerdictDROP_TOO_BIG:         "dropped: it is longer than the MTU of its way out",
	loader.LBVerdictDROP_ICMP:            "dropped: an error about a packet that no flow has sent",
	loader.LBVerdictDROP_DENIED:          "dropped: the service's lists of clients do not allow it",
	loader.LBVerdictDROP_SOURCE_LIMIT:    "dropped: the client's network makes too many flows a second",
	loader.LBVerdictANSWER_TOO_BIG:       "answered with ICMP: it is longer than the MTU of its way out",
	loader.LBVerdictANSWER_ECHO:          "answered: a ping",
	loader.LBVerdictPASS_COOKIE:          "left to this host: part of a flood that is answered with SYN cookies",
	loader.LBVerdictANSWER_COOKIE:        "answered with a SYN cookie",
	loader.LBVerdictDROP_COOKIE:          "dropped: no SYN, no flow and no cookie, in a flood",
	loader.LBVerdictHOLD_FRAGMENT:        "offered to the agent, which may hold it until its first fragment comes",
	loader.LBVerdictDROP_FRAGMENT:        "dropped: what became of its first fragment is not known, or the same",
	loader.LBVerdictANSWER_TIME_EXCEEDED: "answered with ICMP time exceeded: its TTL is used up",
	loader.LBVerdictDROP_FAMILY:          "dropped: it cannot be said in the family of the backend",
}

// checkWords say what a packet finds out about its flow's service and backend.
var checkWords = map[string]string{
	"":     "",
	"fit":  "; it checks the flow, which is fine",
	"down": "; it checks the flow, whose backend is down",
	"gone": "; it checks the flow, whose service or backend is there no more",
}

func flowText(f *datapath.ExplainedFlow) string {
	way := "to backend"
	if f.Direction == "reply" {
		way = "from backend"
	}
	text := fmt.Sprintf("known: %s, %s %s, silent for %.1fs of %.0fs%s", f.State, way, f.Backend, f.Idle, f.Limit, checkWords[f.Check])
	if f.Anew {
		text += "; this packet would begin a new one"
	}
	return text
}

func zoneText(client netip.Addr, zone string) string {
	if zone == "" {
		return fmt.Sprintf("client %s is in none of the service's client-zones", client)
	}
	return fmt.Sprintf("client %s is in zone %s", client, zone)
}

// writeChoice tells how a backend is looked for, and whom that leaves out.
func writeChoice(line func(title, format string, a ...any), c *datapath.Choice) {
	if c.AllUp {
		line("agent", "lost: every backend counts as up")
	}
	title := "choice"
	if !c.Promise {
		title = "next would be"
	}
	for i := range c.Tries {
		t := &c.Tries[i]
		who := t.Backend
		if who == "" {
			who = "no backend"
		}
		line(title, "%s, %s", who, why(c, t))
		if i < len(c.Tries)-1 || !isForward(t.Verdict) {
			line("", "but that try fails: %s", t.Verdict)
		}
		title = "then"
	}
	for _, o := range c.Rest {
		line("not", "%s: %s", o.Backend, o.Why)
	}
}

func isForward(verdict string) bool {
	return verdict == loader.LBVerdictFORWARD_REDIRECT.String() || verdict == loader.LBVerdictFORWARD_TX.String()
}

// why says what leads to the backend of a try.
func why(c *datapath.Choice, t *datapath.Try) string {
	switch {
	case t.Tied:
		return "which the client's network has had before (affinity)"
	case t.Slot == nil:
		return fmt.Sprintf("which has the fewest connections for its weight (%s)", c.Balance)
	case t.Hash != "":
		return fmt.Sprintf("by slot %d of %d: hash %s mod %d (%s)", *t.Slot, c.Slots, t.Hash, c.Slots, c.Balance)
	case t.Beside != nil:
		return fmt.Sprintf("the better of slots %d and %d of %d (%s)", *t.Beside, *t.Slot, c.Slots, c.Balance)
	}
	return fmt.Sprintf("by slot %d of %d (%s)", *t.Slot, c.Slots, c.Balance)
}
