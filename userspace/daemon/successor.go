package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"fairlead/loader"
	"fairlead/userspace/handover"
	"fairlead/userspace/health"
	"fairlead/userspace/model"
	"fairlead/userspace/supervise"
	"fairlead/userspace/udpproxy"
)

// The steps by which a successor takes the place of a process, in their order. Each
// side sees the end of the other, and serves then.
const (
	stepSockets  = "sockets"  // to the successor: what the process listens on
	stepPrepared = "prepared" // from it: the configuration is good
	stepTurn     = "turn"     // to it: the process changes nothing any more; the lock, who is up, and sockets since stepSockets
	stepServing  = "serving"  // from it: it serves
	stepFlows    = "flows"    // to it: the flows of UDP; the process ends
)

// Items of stepTurn: the agent's lock, a socket, with its name behind, or whether a check
// said up, with the digest of its key behind.
const (
	itemLock   = "lock"
	itemSocket = "socket "
	itemUp     = "up "
	itemDown   = "down "
)

// flowsTime is how long a successor waits for the flows of UDP, goneTime for the end of a
// predecessor that is gone.
const (
	flowsTime = 10 * time.Second
	goneTime  = 5 * time.Second
)

// crash is called at steps of a successor; tests kill it there, or its predecessor.
var crash = func(step string, predecessor int) {}

// A predecessor is the process whose place this one takes; nil is none.
type predecessor struct {
	*handover.Peer
	pid   int
	lock  *os.File // nil if it had none, or is gone
	known lastKnown
	// sockets are those of the heritage.
	sockets map[string]*os.File
}

// A heritage is what a process finds when it starts.
type heritage struct {
	before *predecessor
	// sockets are those that the predecessor has handed over, or else the service
	// manager has kept, by their names.
	sockets map[string]*os.File
}

// inherit returns what this process finds.
func (o *Options) inherit(ctx context.Context) (heritage, error) {
	h := heritage{sockets: map[string]*os.File{}}
	if !o.Handover {
		return h, nil
	}
	peer, err := handover.Predecessor()
	if err != nil {
		return h, err
	}
	if peer == nil {
		for _, f := range supervise.Listeners() {
			h.sockets[f.Name()] = f
		}
		return h, nil
	}
	h.before = &predecessor{Peer: peer, pid: os.Getppid(), sockets: h.sockets}
	items, err := h.before.receive(ctx, stepSockets)
	if err != nil {
		return h, errors.Join(err, peer.Close())
	}
	for _, item := range items {
		h.sockets[item.Text] = item.File
	}
	return h, nil
}

// receive is Receive until ctx is done.
func (p *predecessor) receive(ctx context.Context, step string) ([]handover.Item, error) {
	defer context.AfterFunc(ctx, func() { p.SetDeadline(time.Unix(1, 0)) })()
	items, err := p.Receive(step)
	if ctx.Err() != nil {
		handover.Close(items)
		return nil, context.Cause(ctx)
	}
	return items, err
}

// end tells the predecessor why this process ends, if it is by an error, and closes p.
func (p *predecessor) end(why error) {
	if p != nil && why != nil {
		p.Explain(why)
	}
	p.close()
}

// close ends what is between the processes.
func (p *predecessor) close() {
	if p == nil {
		return
	}
	if p.lock != nil { // of another directory, or for nothing
		p.lock.Close()
		p.lock = nil
	}
	p.Close()
}

// is reports whether a process is the predecessor.
func (p *predecessor) is(pid int) bool { return p != nil && p.pid == pid }

// awaitTurn waits until the predecessor changes nothing any more, or is gone.
func (p *predecessor) awaitTurn(ctx context.Context) error {
	if p == nil {
		return nil
	}
	crash(stepPrepared, p.pid)
	err := p.Send(stepPrepared)
	var items []handover.Item
	if err == nil {
		items, err = p.receive(ctx, stepTurn)
	}
	if err != nil && !errors.Is(err, handover.ErrGone) {
		return err
	}
	if err != nil {
		p.awaitEnd(ctx)
	}
	crash(stepTurn, p.pid)
	p.known = lastKnown{}
	for _, item := range items {
		if item.Text == itemLock {
			p.lock = item.File
		} else if name, ok := strings.CutPrefix(item.Text, itemSocket); ok {
			if old := p.sockets[name]; old != nil { // which was closed since
				old.Close()
			}
			p.sockets[name] = item.File
		} else if digest, up := strings.CutPrefix(item.Text, itemUp); up {
			p.known[digest] = true
		} else if digest, down := strings.CutPrefix(item.Text, itemDown); down {
			p.known[digest] = false
		}
	}
	return nil
}

// awaitEnd waits until a predecessor that is gone has ended: what it had it lets go of one
// by one, and the state may be the last.
func (p *predecessor) awaitEnd(ctx context.Context) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for over := time.Now().Add(goneTime); os.Getppid() == p.pid && ctx.Err() == nil && time.Now().Before(over); {
		<-tick.C
	}
}

// lockAgent is [loader.LockAgent], with the lock of the predecessor if that is it.
func (p *predecessor) lockAgent(ctx context.Context, dir, digest string) (*loader.AgentLock, error) {
	if p != nil && p.lock != nil {
		l, ok, err := loader.AdoptAgent(p.lock, dir, digest)
		if ok {
			p.lock = nil
		}
		if ok || err != nil {
			return l, err
		}
	}
	return loader.LockAgent(ctx, dir, digest)
}

// adopt returns what a target counts as at first: as the predecessor knew it, or else
// by other.
func (p *predecessor) adopt(other func(health.Target) (up, ok bool)) func(health.Target) (up, ok bool) {
	if p == nil {
		return other
	}
	return func(t health.Target) (up, ok bool) {
		if up, ok := p.known[digestOf(t.Key())]; ok {
			return up, true
		}
		return other(t)
	}
}

// checkHanded refuses services that cannot listen while the predecessor does: on all
// addresses of a port where that has one, or the other way round. Neither process could
// let go of the port before the other one serves.
func (a *agent) checkHanded() error {
	if a.before == nil {
		return nil
	}
	for i := range a.state.Services {
		s := &a.state.Services[i]
		if !s.UserSpace() && a.mode(a.state) != model.XDPOff {
			continue // it lacks its standby only
		}
		if at, ok := a.sockets.bars(s); ok {
			return fmt.Errorf("%w: %s: the process before this one listens on %s, and cannot leave the port to %s meanwhile; put the change in force by SIGHUP first",
				ErrListen, s.Name, at, s.Listen)
		}
	}
	return nil
}

// A handedFlow is a flow of UDP between two processes.
type handedFlow struct{ Client, Local, Backend netip.AddrPort }

// takeFlows has the predecessor, if there is one, end, and takes over its flows of
// UDP. The agent serves, but for UDP.
func (a *agent) takeFlows() {
	defer close(a.flowsCame)
	p := a.before
	if p == nil {
		return
	}
	a.before = nil
	defer p.close()
	p.SetDeadline(time.Now().Add(flowsTime))
	err := p.Send(stepServing)
	crash(stepServing, p.pid)
	var items []handover.Item
	if err == nil {
		items, err = p.Receive(stepFlows)
	}
	if err != nil && !errors.Is(err, handover.ErrGone) {
		a.log.Warn("take udp flows over", "err", err)
	}
	fronts := map[netip.Addr][]*front{}
	for _, f := range a.fronts {
		if addr := f.table.Load().service.Listen.Addr(); f.udp != nil {
			fronts[addr] = append(fronts[addr], f)
		}
	}
	var held [][2]netip.AddrPort
	for _, item := range items {
		var h handedFlow
		if err := json.Unmarshal([]byte(item.Text), &h); err != nil {
			a.log.Warn("take udp flows over", "err", err)
			continue
		}
		at := slices.IndexFunc(fronts[h.Local.Addr()], func(f *front) bool { return f.fits(&h) })
		if at < 0 {
			item.File.Close() // its client's next datagram begins another one
			continue
		}
		fronts[h.Local.Addr()][at].udp.Adopt(udpproxy.Handed{Client: h.Client, Local: h.Local, Backend: h.Backend, Socket: item.File})
		held = append(held, [2]netip.AddrPort{unmapped(h.Client), h.Local})
	}
	if err := a.standby.settle(held); err != nil {
		a.log.Warn("keep standby flows", "err", err)
	}
	a.log.Info("udp flows taken over", "flows", len(held), "others", len(items)-len(held))
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// fits reports whether a flow to one of its addresses may go on as it is.
func (f *front) fits(h *handedFlow) bool {
	t := f.table.Load()
	if port := h.Local.Port(); port < t.service.Listen.Port() || port > t.service.LastPort {
		return false
	}
	at := slices.IndexFunc(t.service.Backends, func(b model.Backend) bool { return dialed(b, h.Local) == h.Backend })
	return at >= 0 && !t.duties.Down(at)
}
