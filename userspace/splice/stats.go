package splice

import "sync/atomic"

// Stats are sums since the Proxy was made, except Active.
type Stats struct {
	Accepted uint64 // connections of clients
	Active   int64  // connections of clients that are open now
	// ToBackends and ToClients are bytes that were handed to the kernel.
	ToBackends, ToClients uint64
	Denied, SourceLimit   uint64 // clients reset because Admit denied or limited them
	Unannounced           uint64 // clients reset because they did not say whom they are of
	NoBackend             uint64 // clients reset because Pick had no (more) backend
	Retries               uint64 // dials after the first of a connection
	Resets                uint64 // resets by one side that were passed on to the other
	Cut                   uint64 // connections reset by CloseBackend or at the end of Grace
	AcceptErrors          uint64
	DialErrors            DialErrors
}

// DialErrors count by kind the dials that failed.
type DialErrors struct {
	Refused, Timeout, Unreachable uint64
	// Local are faults of this host, such as no port or descriptor left.
	// They say nothing about the backend.
	Local uint64
}

type counters struct {
	accepted, denied, sourceLimit, toBackends, toClients atomic.Uint64
	noBackend, retries, resets, cuts, acceptErrors       atomic.Uint64
	unannounced                                          atomic.Uint64

	active     atomic.Int64
	dialErrors [faults]atomic.Uint64
}

// Stats returns the counters as they stand. It may be called at any time.
func (p *Proxy) Stats() Stats {
	return Stats{
		Accepted:     p.accepted.Load(),
		Active:       p.active.Load(),
		ToBackends:   p.toBackends.Load(),
		ToClients:    p.toClients.Load(),
		Denied:       p.denied.Load(),
		SourceLimit:  p.sourceLimit.Load(),
		Unannounced:  p.unannounced.Load(),
		NoBackend:    p.noBackend.Load(),
		Retries:      p.retries.Load(),
		Resets:       p.resets.Load(),
		Cut:          p.cuts.Load(),
		AcceptErrors: p.acceptErrors.Load(),
		DialErrors: DialErrors{
			Refused:     p.dialErrors[refused].Load(),
			Timeout:     p.dialErrors[timeout].Load(),
			Unreachable: p.dialErrors[unreachable].Load(),
			Local:       p.dialErrors[local].Load(),
		},
	}
}
