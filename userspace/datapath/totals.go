package datapath

import "fairlead/loader"

// Totals are sums of a [View].
type Totals struct {
	Packets uint64                 `json:"packets"`
	Kinds   map[loader.Kind]uint64 `json:"kinds"`
	// Forwarded are the sums over the services that there are.
	Forwarded Counters `json:"forwarded"`
}

// Totals returns the sums of what is in v.
func (v *View) Totals() Totals {
	t := Totals{Kinds: map[loader.Kind]uint64{}}
	for i := range loader.Verdicts {
		n := v.Verdicts[i.String()]
		t.Kinds[i.Kind()] += n
		t.Packets += n
	}
	for i := range v.Services {
		c, f := &v.Services[i].Counters, &t.Forwarded
		f.Flows += c.Flows
		f.ForwardPackets += c.ForwardPackets
		f.ForwardBytes += c.ForwardBytes
		f.ReplyPackets += c.ReplyPackets
		f.ReplyBytes += c.ReplyBytes
		f.Unanswered += c.Unanswered
		f.Refused += c.Refused
		f.Resets += c.Resets
	}
	return t
}
