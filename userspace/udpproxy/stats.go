package udpproxy

import "sync/atomic"

// Stats are sums since the Proxy was made, except Flows.
type Stats struct {
	Flows      int     // now
	Opened     uint64  // flows made
	Expired    uint64  // flows that ended by silence
	Evicted    uint64  // flows that made room for a new one
	Moved      uint64  // times that a flow got another socket, after Refused or CloseBackend
	Refused    uint64  // times that a backend said it does not listen (ICMP)
	ToBackends Traffic // what clients sent
	ToClients  Traffic // what backends answered
	NoBackend  uint64  // times that Pick had no backend
	// Denied and SourceLimit are datagrams that Admit denied or limited.
	Denied, SourceLimit uint64
	Dropped             uint64 // datagrams not forwarded, for whatever reason
	DialErrors          uint64 // sockets to backends that could not be made
	ReadErrors          uint64 // other errors that waited on sockets
}

// Traffic is an amount of datagrams.
type Traffic struct {
	Datagrams uint64
	Bytes     uint64 // of payload
}

type counters struct {
	opened, expired, evicted, moved, refused, noBackend, dropped, dialErrors, readErrors atomic.Uint64
	denied, sourceLimit                                                                  atomic.Uint64

	toBackends, toClients traffic
}

type traffic struct{ datagrams, bytes atomic.Uint64 }

func (t *traffic) add(n int) {
	t.datagrams.Add(1)
	t.bytes.Add(uint64(n))
}

func (t *traffic) load() Traffic { return Traffic{t.datagrams.Load(), t.bytes.Load()} }

// Stats returns the counters as they stand. It may be called at any time.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	flows := len(p.flows)
	p.mu.Unlock()
	return Stats{
		Flows:       flows,
		Opened:      p.opened.Load(),
		Expired:     p.expired.Load(),
		Evicted:     p.evicted.Load(),
		Moved:       p.moved.Load(),
		Refused:     p.refused.Load(),
		ToBackends:  p.toBackends.load(),
		ToClients:   p.toClients.load(),
		NoBackend:   p.noBackend.Load(),
		Denied:      p.denied.Load(),
		SourceLimit: p.sourceLimit.Load(),
		Dropped:     p.dropped.Load(),
		DialErrors:  p.dialErrors.Load(),
		ReadErrors:  p.readErrors.Load(),
	}
}
