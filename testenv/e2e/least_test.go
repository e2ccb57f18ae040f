package e2e

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
)

// A contestant is a backend from its addition to its removal.
type contestant struct {
	weight, open int
	down         bool
}

// A contest is what is known of the backends of a service that goes by the
// fewest connections, while clients come and go and backends change.
type contest struct {
	backends          map[string]*contestant // by address, which is what they answer
	changes, removals int
}

// excess returns how many connections a backend has before it gets one more
// that another one should have had, for its weight, and how many it should have
// then; an infinite number if it should get none.
func (c *contest) excess(address string) (off, ideal float64) {
	level := math.Inf(1) // of connections for each weight, with half of the next
	for _, b := range c.backends {
		if b.weight > 0 && !b.down {
			level = min(level, (float64(b.open)+0.5)/float64(b.weight))
		}
	}
	b := c.backends[address]
	if b == nil || b.weight == 0 || b.down {
		return math.Inf(1), 0
	}
	ideal = level * float64(b.weight)
	return float64(b.open) + 0.5 - ideal, ideal
}

// A churn is a contest that goes on.
type churn struct {
	mu sync.Mutex
	contest
	opened, checked int
	worst           float64 // error beyond what two clients may not know of each other
	errs            []error
	left            []seat // of clients that come and go no more
}

// look returns the contest as it is now.
func (c *churn) look() contest {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := contest{map[string]*contestant{}, c.changes, c.removals}
	for address, b := range c.backends {
		one := *b
		now.backends[address] = &one
	}
	return now
}

// unknown is how far off a backend of weight 3 may look beside one of weight 1,
// when another client has a connection or an end of one under way at each.
const unknown = 4

// note checks who got a connection, and counts it. It returns nil for one that
// may belong to a backend that was removed since before.
func (c *churn) note(before contest, address string) *contestant {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.backends[address]
	if c.removals != before.removals || b == nil {
		return nil
	}
	c.opened++
	if c.changes-before.changes <= 1 { // else it may have met something between
		c.checked++
		off, ideal := before.excess(address)
		if now, then := c.excess(address); now < off {
			off, ideal = now, then
		}
		if off > unknown {
			c.worst = max(c.worst, off/ideal)
		}
		if off > max(unknown, 0.05*ideal) {
			c.errs = append(c.errs, fmt.Errorf("%s got a connection though it has %.1f more than %.1f", address, off, ideal))
		}
	}
	b.open++
	return b
}

// A seat is a connection, and the backend that has it.
type seat struct {
	net.Conn
	at *contestant
}

// take opens a connection from the calling thread; one without a backend if
// that was removed meanwhile.
func (c *churn) take(ctx context.Context) (seat, error) {
	before := c.look()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", vip+":80")
	if err != nil {
		return seat{}, err
	}
	// What is closed is over at once.
	_ = conn.(*net.TCPConn).SetLinger(0)
	a, err := stage.NewTalk(conn).Ask()
	if err != nil {
		conn.Close()
		if c.look().removals != before.removals {
			err = nil
		}
		return seat{}, err
	}
	b := c.note(before, a.Message)
	if b == nil {
		conn.Close()
	}
	return seat{conn, b}, nil
}

// leave closes a connection.
func (c *churn) leave(x seat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.at.open--
	x.Close()
}

// comeAndGo keeps up to n connections open, of which one after the other ends,
// from one CPU until stop is closed. They stay open then.
func (c *churn) comeAndGo(ctx context.Context, cpu, n int, stop <-chan struct{}) error {
	if err := testenv.PinCPU(cpu); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(uint64(cpu), 1))
	var open []seat
	for {
		select {
		case <-stop:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.left = append(c.left, open...)
			return nil
		default:
		}
		if len(open) == n {
			i := rng.IntN(n)
			c.leave(open[i])
			open = slices.Delete(open, i, i+1)
		}
		x, err := c.take(ctx)
		if err != nil {
			return err
		}
		if x.at != nil {
			open = append(open, x)
		}
	}
}

// change does something to a random backend, to the kernel and to the contest.
func (c *churn) change(r *reconciler, rng *rand.Rand) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &r.want.Services[0]
	i := rng.IntN(len(s.Backends))
	address := s.Backends[i].Address.String()
	switch rng.IntN(3) {
	case 0:
		s.Backends[i].Weight = 1 + rng.IntN(3)
	case 1:
		s.Down[i] = !s.Down[i] && rng.IntN(2) == 0
	case 2: // removed, and back with nothing at once
		away := *s
		away.Backends, away.Down = slices.Delete(slices.Clone(s.Backends), i, i+1), slices.Delete(slices.Clone(s.Down), i, i+1)
		back := r.want.Services[0]
		r.want.Services[0] = away
		r.apply()
		r.want.Services[0] = back
		c.backends[address] = &contestant{}
		c.removals++
	}
	r.apply()
	c.backends[address].weight, c.backends[address].down = s.Backends[i].Weight, s.Down[i]
	c.changes++
}

// serveMany starts servers on some ports of every backend, which answer with
// their address, and returns them as a YAML list.
func serveMany(s *stage.Stage, ports int) (list string) {
	var servers []*stage.Process
	for i, h := range s.Backends {
		for port := 8080; port < 8080+ports; port++ {
			address := fmt.Sprintf("%s:%d", s.BackendAddrs[i], port)
			servers = append(servers, s.Start(h, programs.Dummyserver, "--port", fmt.Sprint(port), "--message", address))
			list += fmt.Sprintf("{address: '%s'}, ", address)
		}
	}
	for _, p := range servers {
		p.AwaitOutput("listens on port")
	}
	return "[" + list + "]"
}

// TestLeastConnectionsUnderChurn has clients on two CPUs open and close
// connections while backends come, go and change 1 000 times a minute. Each
// connection must go to the backend that has the fewest for its weight, or to one
// that has no more than 5 % more.
func TestLeastConnectionsUnderChurn(t *testing.T) {
	s := stage.New(t, stage.Options{RigOptions: testenv.RigOptions{Clients: 2}, Programs: programs})
	s.Configure(`
interfaces: %s
services:
  - {name: web, listen: %s:80, balance: %s, backends: %s, health: {type: none}, on-down: keep, panic-threshold: 0}
`, s.Links(), vip, model.LeastConnections, serveMany(s, 3))
	r := reconciled(t, s)
	c := &churn{contest: contest{backends: map[string]*contestant{}}}
	for _, b := range r.want.Services[0].Backends {
		c.backends[b.Address.String()] = &contestant{weight: b.Weight}
	}
	stop := make(chan struct{})
	var waits []func() error
	for cpu, h := range s.Clients {
		waits = append(waits, h.Go(func() error { return c.comeAndGo(t.Context(), cpu, slow(400, 1000), stop) }))
	}
	rng, begin := rand.New(rand.NewPCG(1, 2)), time.Now()
	pace := time.NewTicker(time.Minute / 1000)
	defer pace.Stop()
	for range slow(120, 1000) {
		<-pace.C
		c.change(r, rng)
	}
	took := time.Since(begin)
	close(stop)
	for _, wait := range waits {
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d changes in %s; %d connections, %d of them checked, the worst %.1f %% off", c.changes, took, c.opened, c.checked, 100*c.worst)
	for i, err := range c.errs {
		if t.Error(err); i == 5 {
			t.Fatalf("and %d more", len(c.errs)-i-1)
		}
	}
	c.wantCounted(t, r)
	for _, x := range c.left {
		x.Close()
	}
}

// wantCounted wants the kernel to have counted what is open.
func (c *churn) wantCounted(t *testing.T, r *reconciler) {
	t.Helper()
	stage.Await(t, "the kernel to count what is open", func() error {
		v, err := datapath.ReadLive(r.maps)
		if err != nil {
			return err
		}
		for _, b := range v.Services[0].Backends {
			if want := c.backends[b.Address].open; int(b.Connections) != want || *b.Live != want {
				return fmt.Errorf("%s has %d connections and %d flows, want %d", b.Address, b.Connections, *b.Live, want)
			}
		}
		return nil
	})
}
