package splice

import (
	"sync/atomic"
	"time"

	"fairlead/userspace/accesslog"
)

// A flow counts what goes in one direction of a session, for it and for the Proxy.
// Only the goroutine that moves it adds.
type flow struct {
	total *atomic.Uint64
	bytes uint64
	first time.Time // when the first bytes had come
}

func (f *flow) add(n uint64) {
	if f.bytes == 0 {
		f.first = time.Now()
	}
	f.bytes += n
	f.total.Add(n)
}

// ends notes who has ended s, unless that is known.
func (s *session) ends(by accesslog.Party, reason accesslog.Reason) {
	s.end.CompareAndSwap(nil, &accesslog.Ending{By: by, Reason: reason})
}

// refuse resets a client that gets no backend.
func (s *session) refuse(reason accesslog.Reason) {
	s.ends(accesslog.Agent, reason)
	reset(s.client)
	s.tell()
}

// tell tells the log of a session that is over.
func (s *session) tell() {
	if s.add == nil {
		return
	}
	r := &accesslog.Record{
		Began: s.began, Protocol: "tcp", Client: s.from.String(), Peer: s.client.RemoteAddr().String(), Retries: s.retries,
		Total: time.Since(s.began), BytesIn: s.up.bytes, BytesOut: s.down.bytes,
	}
	if s.backend != nil {
		r.Backend, r.Connect = s.backend.RemoteAddr().String(), s.connect
		if !s.down.first.IsZero() {
			r.FirstByte = s.down.first.Sub(s.joined)
		}
	}
	if e := s.end.Load(); e != nil {
		r.Ending = *e
	}
	s.add(r)
}

func other(p accesslog.Party) accesslog.Party {
	if p == accesslog.Client {
		return accesslog.Backend
	}
	return accesslog.Client
}
