package daemon

import (
	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/httpcache"
	"fairlead/userspace/metrics"
	"fairlead/userspace/model"
	"fairlead/userspace/splice"
)

// measure returns what the front has counted.
func (f *front) measure(conf *model.Service) metrics.Service {
	m := metrics.Service{Name: conf.Name, Protocol: string(conf.Protocol)}
	switch {
	case f.udp != nil:
		s := f.udp.Stats()
		m.Accepted, m.Active, m.Refused, m.NoBackend = s.Opened, int64(s.Flows), s.Denied+s.SourceLimit, s.NoBackend
		m.Bytes = [2]uint64{s.ToBackends.Bytes, s.ToClients.Bytes}
		m.UDP = &metrics.UDP{Datagrams: [2]uint64{s.ToBackends.Datagrams, s.ToClients.Datagrams}, Evicted: s.Evicted, Dropped: s.Dropped}
	case f.http != nil:
		f.http.measure(&m)
	default:
		measureTCP(&m, f.tcp.Stats())
	}
	return m
}

func measureTCP(m *metrics.Service, s splice.Stats) {
	m.Accepted, m.Active, m.Refused, m.NoBackend, m.Retries = s.Accepted, s.Active, s.Denied+s.SourceLimit, s.NoBackend, s.Retries
	m.Unannounced, m.Bytes = s.Unannounced, [2]uint64{s.ToBackends, s.ToClients}
	d := s.DialErrors
	m.TCP = &metrics.TCP{
		Resets: s.Resets, Cut: s.Cut, AcceptErrors: s.AcceptErrors,
		Refused: d.Refused, Timeout: d.Timeout, Unreachable: d.Unreachable, Local: d.Local,
	}
}

func (h *frontHTTP) measure(m *metrics.Service) {
	s := h.proxy.Stats()
	m.Protocol = "http"
	m.Accepted, m.Active, m.Refused, m.NoBackend, m.Retries = s.Accepted, s.Active, s.Denied+s.SourceLimit, s.NoBackend, s.Retries
	m.Unannounced, m.Requests = s.Unannounced, requests(s.Requests, s.Answers, h.proxy.Latency())
	m.HTTP = &metrics.HTTP{
		Running: s.Running, Broken: s.Broken, Tunnels: s.Tunnels, RateLimited: s.RateLimited, Malformed: s.Malformed,
		Mirrored: s.Mirrored, Unmirrored: s.MirrorDrops,
	}
	if c := h.cache.Load(); c != nil {
		m.HTTP.Cache = measureCache(c.Stats())
	}
}

func measureCache(s httpcache.Stats) *metrics.Cache {
	return &metrics.Cache{
		Fresh: s.Hits - min(s.Stale, s.Hits), Stale: s.Stale, Revalidated: s.Revalidated, Missed: s.Misses - min(s.Revalidated, s.Misses),
		Bytes: s.Bytes, Pages: s.Pages,
	}
}

func (h *holder) measure() metrics.Fragments {
	s := &h.stats
	return metrics.Fragments{
		Held: s.Held.Load(), GivenBack: s.GivenBack.Load(), TimedOut: s.TimedOut.Load(), NoRoom: s.NoRoom.Load(), Failed: s.Failed.Load(),
	}
}

// addDatapath adds what the kernel counts where XDP runs. It may be called from any
// goroutine.
func (a *agent) addDatapath(s *metrics.Snapshot) error {
	if s.Datapath == nil {
		return nil
	}
	return onInstance(a.opts.PinDir, func(m *loader.Maps) error {
		v, err := datapath.Read(m)
		if err != nil {
			return err
		}
		events, err := m.ReadEventCounts()
		if err != nil {
			return err
		}
		s.Datapath = measureDatapath(v)
		s.Datapath.Events = []metrics.Events{{Event: "begin", Written: events.Begun, Lost: events.BegunLost}, {Event: "end", Written: events.Ended, Lost: events.EndedLost}}
		if held := a.held.Load(); held >= 0 {
			s.Datapath.Fill = append(s.Datapath.Fill, metrics.Fill{Map: "flows", Used: uint64(held), Size: uint64(m.FlowRoom()) + uint64(m.FlowRoom6())})
		}
		return nil
	})
}

func measureDatapath(v *datapath.View) *metrics.Datapath {
	d := &metrics.Datapath{Evictions: v.Evictions}
	for i := range loader.Verdicts {
		d.Packets = append(d.Packets, metrics.Packets{Action: string(i.Kind()), Reason: i.Reason(), Count: v.Verdicts[i.String()]})
	}
	for _, f := range v.Fill {
		d.Fill = append(d.Fill, metrics.Fill{Map: f.Map, Used: uint64(f.Used), Size: uint64(f.Size)})
	}
	for i := range v.Services {
		s := &v.Services[i]
		of := metrics.Traffic{Service: s.Name, Protocol: string(s.Protocol)}
		d.Services = append(d.Services, traffic(of, &s.Counters, s.Connections))
		for j := range s.Backends {
			b := &s.Backends[j]
			of.Backend = b.Address
			d.Backends = append(d.Backends, traffic(of, &b.Counters, b.Connections))
		}
	}
	return d
}

func traffic(t metrics.Traffic, c *datapath.Counters, connections uint32) metrics.Traffic {
	t.Flows, t.Connections = c.Flows, uint64(connections)
	t.Packets, t.Bytes = [2]uint64{c.ForwardPackets, c.ReplyPackets}, [2]uint64{c.ForwardBytes, c.ReplyBytes}
	t.Unanswered, t.Refused, t.Resets = c.Unanswered, c.Refused, c.Resets
	return t
}
