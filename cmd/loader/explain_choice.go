package main

import (
	"fmt"

	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// A liner prints a line, with a title before it.
type liner func(title, format string, a ...any)

// writeChoice tells how a backend is looked for, and whom that leaves out.
func writeChoice(line liner, e *datapath.Explanation) {
	c := e.Choice
	if c.AllUp {
		line("agent", "lost: every backend counts as up (on-agent-loss)")
	}
	title := "choice"
	if !c.Promise {
		title = "next would be"
	}
	if c.Slots == 0 {
		line("choice", "none: no backend can serve")
	}
	for i := range c.Tries {
		t := &c.Tries[i]
		who := t.Backend
		if who == "" {
			who = "no backend"
		}
		line(title, "%s, %s", who, why(c, t))
		if words, failed := tryWords[t.Verdict]; failed {
			line("", "but not there: %s (%s)", words, t.Verdict)
		}
		title = "then"
	}
	for i := range c.Rest {
		line("not", "%s: %s", c.Rest[i].Backend, whyNot(e, &c.Rest[i]))
	}
}

// why says what leads to the backend of a try.
func why(c *datapath.Choice, t *datapath.Try) string {
	switch {
	case t.Tied:
		return "which the client's network has had before (affinity)"
	case t.Slot == nil && c.MaxLoad > 0:
		return fmt.Sprintf("the least busy of those that the hash leads to, all of which have more than max-load %d%% (%s)", c.MaxLoad, c.Balance)
	case t.Slot == nil:
		return fmt.Sprintf("which has the fewest flows for its weight: %s (%s)", loadText(t.Load), c.Balance)
	case t.Hash != "" && c.MaxLoad > 0:
		return fmt.Sprintf("by slot %d of %d: hash %s mod %d, and its flows are within max-load %d%% (%s)", *t.Slot, c.Slots, t.Hash, c.Slots, c.MaxLoad, c.Balance)
	case t.Hash != "":
		return fmt.Sprintf("by slot %d of %d: hash %s mod %d (%s)", *t.Slot, c.Slots, t.Hash, c.Slots, c.Balance)
	case t.Beside != nil:
		return fmt.Sprintf("the less busy of slots %d and %d of %d: %s (%s)", *t.Beside, *t.Slot, c.Slots, loadText(t.Load), c.Balance)
	}
	return fmt.Sprintf("by slot %d of %d (%s)", *t.Slot, c.Slots, c.Balance)
}

func loadText(l datapath.Load) string {
	flows := "flows"
	if l.Connections == 1 {
		flows = "flow"
	}
	return fmt.Sprintf("%d %s, weight %d", l.Connections, flows, l.Weight)
}

// whyNot says why a backend was not chosen.
func whyNot(e *datapath.Explanation, o *datapath.Other) string {
	switch o.Why {
	case datapath.WhyNoWeight:
		return "gets no new flows: it drains, or waits as a backup or in another zone (the agent would know)"
	case datapath.WhyDraining, datapath.WhyLeaving, datapath.WhyBackup, datapath.WhyZone:
		return view.Wait(o.Why).Words(o.Zone)
	case datapath.WhyClientZone:
		if e.ClientZone == nil || *e.ClientZone == "" {
			return "not for " + homeText(e) + ", which has others"
		}
		return "not for the client's zone, which has others"
	case datapath.WhyOver:
		return "passed over for its load: " + loadText(o.Load)
	case datapath.WhyBusier:
		return "not less busy: " + loadText(o.Load)
	case datapath.WhyNotChosen:
		return whyNotChosen(e.Choice, o)
	}
	return string(o.Why)
}

// whyNotChosen says why a backend that could serve does not.
func whyNotChosen(c *datapath.Choice, o *datapath.Other) string {
	if len(c.Tries) > 0 && c.Tries[0].Tied {
		return "the client's network stays where it is"
	}
	switch c.Balance {
	case "round-robin", string(model.ResponseTime):
		return "not its turn"
	case "random", "p2c":
		return "not drawn"
	case "least-connections":
		return "not less busy: " + loadText(o.Load)
	case "maglev", "source-hash":
		return "not where the hash leads"
	}
	return "not chosen"
}
