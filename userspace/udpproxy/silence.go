package udpproxy

import (
	"cmp"
	"context"
	"net"
	"time"
)

// A leaving is a backend that a flow has left, to be told so without the lock.
type leaving struct {
	conn *net.UDPConn
	done func(error)
}

// leave closes what was left, and returns how many flows had a backend.
func leave(left []leaving) (n int) {
	for _, l := range left {
		if l.conn == nil {
			continue
		}
		l.conn.Close()
		l.done(nil)
		n++
	}
	return n
}

// drop forgets f. The caller holds the lock, and leaves what drop returns.
func (p *Proxy) drop(f *flow) leaving {
	l := leaving{f.conn, f.done}
	f.conn, f.done = nil, nil
	delete(p.flows, f.key)
	p.silent.remove(f)
	if p.size.Add(-1) == 0 {
		p.room().active.Add(-1)
	}
	p.room().give()
	if p.OnFlow != nil {
		p.OnFlow(unmap(f.key.client), f.key.local, false)
	}
	return l
}

// evict forgets the longest silent flow. It returns false if there is none.
func (p *Proxy) evict() bool {
	p.mu.Lock()
	if p.silent.oldest == nil {
		p.mu.Unlock()
		return false
	}
	l := p.drop(p.silent.oldest)
	p.mu.Unlock()
	p.evicted.Add(1)
	leave([]leaving{l})
	return true
}

// sweep forgets flows that were silent for too long, until ctx is done.
func (p *Proxy) sweep(ctx context.Context) {
	idle := cmp.Or(p.Idle, DefaultIdle)
	t := time.NewTicker(max(idle/8, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for p.expire(now.Add(-idle)) {
			}
		}
	}
}

// expire forgets some of the flows that are silent since before. It returns
// true if there may be more, so that traffic gets at the lock in between.
func (p *Proxy) expire(before time.Time) bool {
	var left []leaving
	p.mu.Lock()
	for f := p.silent.oldest; f != nil && f.last.Before(before) && len(left) < 128; f = p.silent.oldest {
		left = append(left, p.drop(f))
		p.expired.Add(1)
	}
	p.mu.Unlock()
	leave(left)
	return len(left) == 128
}

// forget forgets the flows that came by s.
func (p *Proxy) forget(s *server) {
	var left []leaving
	p.mu.Lock()
	for _, f := range p.flows {
		if f.server == s {
			left = append(left, p.drop(f))
		}
	}
	p.mu.Unlock()
	leave(left)
	p.room().leave(p)
}

// A flowList holds flows in the order of their last datagram.
type flowList struct{ newest, oldest *flow }

// push adds f, which is in no list, as the newest.
func (l *flowList) push(f *flow) {
	f.newer, f.older = nil, l.newest
	if l.newest != nil {
		l.newest.newer = f
	} else {
		l.oldest = f
	}
	l.newest = f
}

// remove takes f, which is in the list, out.
func (l *flowList) remove(f *flow) {
	if f.newer != nil {
		f.newer.older = f.older
	} else {
		l.newest = f.older
	}
	if f.older != nil {
		f.older.newer = f.newer
	} else {
		l.oldest = f.newer
	}
	f.newer, f.older = nil, nil
}
