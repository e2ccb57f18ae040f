package httpproxy

import (
	"net/http"
	"sync/atomic"
	"time"

	"fairlead/userspace/latency"
)

// Stats are sums since the Proxy was made, except Active and Running.
type Stats struct {
	Accepted, Denied, SourceLimit uint64 // connections; see [Proxy.Admit]
	Active                        int64  // connections that speak HTTP now
	Requests                      uint64
	Running                       int64          // requests now, changed protocols included
	Answers                       map[int]uint64 // by status, those that came; 0 for any but 100 to 599
	Broken                        uint64         // answers that were broken off
	Retries                       uint64         // attempts after the first of a request
	NoBackend                     uint64         // requests without a backend, or none free or reached
	Tunnels                       uint64         // connections that changed their protocol
	RateLimited                   uint64         // requests of clients that made too many
	Malformed                     uint64         // connections that ended at what is no HTTP
	Unannounced                   uint64         // connections that did not say whom they are of
	Mirrored, MirrorDrops         uint64         // copies of requests that were sent, and that could not be
	Cut                           uint64         // requests that Cut broke off, or the end of Grace
}

type counters struct {
	accepted, denied, sourceLimit, requests, broken, retries, noBackend, tunnels,
	rateLimited, malformed, unannounced, mirrored, mirrorDrops, cut atomic.Uint64

	answers         statusCounts
	active, running atomic.Int64
	yields          atomic.Int64 // what Yield was given
	latency         latency.Recorder
}

// Stats returns the counters as they stand. It may be called at any time.
func (p *Proxy) Stats() Stats {
	return Stats{
		Accepted: p.accepted.Load(), Denied: p.denied.Load(), SourceLimit: p.sourceLimit.Load(),
		Active: p.active.Load(), Requests: p.requests.Load(), Running: p.running.Load(),
		Broken: p.broken.Load(), Retries: p.retries.Load(), NoBackend: p.noBackend.Load(), Tunnels: p.tunnels.Load(),
		RateLimited: p.rateLimited.Load(), Malformed: p.malformed.Load(), Unannounced: p.unannounced.Load(),
		Mirrored: p.mirrored.Load(), MirrorDrops: p.mirrorDrops.Load(), Cut: p.cut.Load(), Answers: p.answers.read(),
	}
}

// Latency returns how long answers took, our own too, until their header was sent; not
// those to what is refused before it is a request.
func (p *Proxy) Latency() *latency.Recorder { return &p.latency }

// A counted writer counts the answer that goes through it.
type counted struct {
	http.ResponseWriter
	counters *counters
	began    time.Time
	status   int
	eager    bool   // nothing waits for what follows
	patient  bool   // push is called before somebody waits for what follows
	held     bool   // something waits for push, or for the end
	pages    pages  // of the route, or of the table
	cookie   string // to set; past what keeps answers for others
	old      bool   // the client speaks HTTP/1.0
	last     bool   // the connection ends with the answer
	upload   *upload
	note     *note

	// idle bounds how long the client may take for a part of an answer, 0 is for
	// ever; unless watched says that an attempt looks to that.
	idle        time.Duration
	watched     bool
	begun, late atomic.Bool // the header has left; what follows it takes too long
}

func (w *counted) WriteHeader(status int) {
	if status < 200 && w.old {
		return // it knows of none
	}
	if status >= 200 {
		w.begin(status)
		if w.cookie != "" {
			w.Header().Add("Set-Cookie", w.cookie)
		}
		if w.upload.answer() || w.last || w.counters.yields.Load() > 0 {
			w.Header().Set("Connection", "close")
		}
	}
	w.ResponseWriter.WriteHeader(status)
	w.flush()
}

func (w *counted) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.begin(http.StatusOK)
	}
	if !w.watched && w.idle > 0 {
		return w.writeInTime(b)
	}
	n, err := w.ResponseWriter.Write(b)
	w.note.wrote(n, err)
	w.flush()
	return n, err
}

// writeInTime is Write for an answer of ours, or one that is stored. The bound is for
// what the server keeps back, too; it ends with the request.
func (w *counted) writeInTime(b []byte) (n int, err error) {
	c := http.NewResponseController(w.ResponseWriter)
	for n < len(b) && err == nil {
		_ = c.SetWriteDeadline(time.Now().Add(w.idle))
		if w.late.Load() {
			panic(http.ErrAbortHandler) // or half a body would look whole
		}
		var part int
		part, err = w.ResponseWriter.Write(b[n:min(len(b), n+bufferSize)])
		n += part
		w.note.wrote(part, err)
	}
	return n, err
}

// begin notes the status of the answer, and when there was one.
func (w *counted) begin(status int) {
	if w.status == 0 {
		now := time.Now()
		w.counters.latency.Record(now.Sub(w.began), now)
	}
	w.status = status
	w.begun.Store(true)
}

func (w *counted) flush() {
	switch {
	case !w.eager:
	case w.patient:
		w.held = true
	default:
		w.push()
	}
}

// push sends what is held.
func (w *counted) push() {
	w.held = false
	_ = http.NewResponseController(w.ResponseWriter).Flush() // who is gone is found by the next Write
}

// Unwrap is for [http.ResponseController].
func (w *counted) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// end counts the answer; it is deferred, and lets panics pass.
func (w *counted) end() {
	if w.status != 0 {
		w.counters.answers.add(w.status)
	}
	err := recover()
	w.note.end(w, err != nil)
	if err != nil {
		w.counters.broken.Add(1)
		panic(err)
	}
}
