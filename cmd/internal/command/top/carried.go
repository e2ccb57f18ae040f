package top

import (
	"time"

	"fairlead/cmd/internal/command/status"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// counts say which of a Row's rates somebody counts.
type counts uint8

const (
	countsFlows counts = 1 << iota
	countsPackets
	countsBytes
	countsRequests

	countsInKernel = countsFlows | countsPackets | countsBytes
)

// A carried is what an agent's proxies have counted until a time.
type carried struct {
	at     time.Time // zero if no agent tells
	by     map[counted]view.Proxied
	counts map[counted]counts
	// since is what rates are differences to: the last one that is older; nil if there
	// is none. An agent tells anew once a second, or less often.
	since *carried
}

func carriedOf(s *status.Status) carried {
	c := carried{by: map[counted]view.Proxied{}, counts: map[counted]counts{}}
	if s.Agent == nil {
		return c
	}
	c.at = s.Agent.Written
	for i := range s.Services {
		v := &s.Services[i]
		id := counted{service: keyOf(v.Listen, v.Protocol)}
		if v.Proxied == nil {
			continue
		}
		backends := countsFlows
		c.by[id], c.counts[id] = *v.Proxied, countsFlows|countsBytes
		switch {
		case v.Rung == view.RungHTTP:
			backends, c.counts[id] = countsRequests, countsFlows|countsRequests
		case v.Protocol == model.UDP:
			continue
		}
		for j := range v.Backends {
			b := &v.Backends[j]
			of := counted{id.service, b.Pool, b.Address}
			c.by[of], c.counts[of] = view.Proxied{}, backends
			if b.Proxied != nil {
				c.by[of] = *b.Proxied
			}
		}
	}
	return c
}

// begin chooses what rates are differences to.
func (c *carried) begin(before *carried) {
	switch {
	case before.at.Equal(c.at):
		c.since = before.since
	case !before.at.IsZero():
		c.since, before.since = before, nil // or all readings would stay
	}
}

// addTo adds to a row what the proxies do for it, if an agent tells.
func (c *carried) addTo(row *Row, what counted) {
	now, ok := c.by[what]
	if !ok {
		return
	}
	row.Live += int(now.Active)
	if c.since == nil {
		return
	}
	was := c.since.by[what]
	if now.Connections < was.Connections || now.Requests < was.Requests || now.ToBackends < was.ToBackends || now.ToClients < was.ToClients {
		was = view.Proxied{} // it began again
	}
	seconds := c.at.Sub(c.since.at).Seconds()
	rate := func(now, was uint64) float64 { return float64(now-was) / seconds }
	row.add(Row{counts: c.counts[what], Rates: &Rates{
		Flows: rate(now.Connections, was.Connections), Requests: rate(now.Requests, was.Requests),
		ForwardBytes: rate(now.ToBackends, was.ToBackends), ReplyBytes: rate(now.ToClients, was.ToClients),
	}})
}
