package udpproxy

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// askOnAndOn has clients ask one thing after the other, and returns when all are half
// through.
func askOnAndOn(t *testing.T, asked *sync.WaitGroup, addr netip.AddrPort, clients int) {
	t.Helper()
	const asks = 200
	half := make(chan struct{}, clients)
	for range clients {
		c := client(t, addr)
		asked.Go(func() {
			for i := range asks {
				if i == asks/2 {
					half <- struct{}{}
				}
				if err := asksOnce(c, fmt.Sprint(i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range clients {
		<-half
	}
}

// TestFlowsGoOnInAnotherProxy hands flows over while their clients send: none loses a
// datagram, and the backends see the same sockets.
func TestFlowsGoOnInAnotherProxy(t *testing.T) {
	const clients = 20
	var mu sync.Mutex
	from := map[netip.AddrPort]bool{} // sockets that the backend has seen
	backend := echo(t, loopback, func(d datagram) {
		mu.Lock()
		defer mu.Unlock()
		from[d.from] = true
	})
	l, err := Listen(t.Context(), loopback)
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	old := serveOn(t, &Proxy{Pick: to(backend)}, l)
	var asked sync.WaitGroup
	askOnAndOn(t, &asked, old.addr, clients)
	var handed []Handed
	old.HandOver(func(h Handed) { handed = append(handed, h) })
	_ = old.stop()
	if n := old.Stats().Flows; n != 0 || len(handed) != clients {
		t.Errorf("%d flows are left, %d handed over", n, len(handed))
	}
	var told journal
	next := &Proxy{Pick: to(), OnFlow: func(_, _ netip.AddrPort, open bool) { told.add(fmt.Sprint(open)) }}
	for _, h := range handed {
		next.Adopt(h)
	}
	again, err := net.FilePacketConn(file)
	if err != nil {
		t.Fatal(err)
	}
	taker := serveOn(t, next, again.(*net.UDPConn))
	asked.Wait()
	if s := taker.Stats(); s.Flows != clients || s.Dropped != 0 || s.Opened != clients {
		t.Errorf("%+v", s)
	}
	if mu.Lock(); len(from) != clients {
		t.Errorf("the backend has seen %d sockets of %d flows", len(from), clients)
	}
	mu.Unlock()
	_ = taker.stop()
	if got := told.all(); len(got) != 2*clients {
		t.Errorf("told of flows: %v", got)
	}
}

// TestAFlowWithoutRoomEnds hands over more than there is room for.
func TestAFlowWithoutRoomEnds(t *testing.T) {
	backend := echo(t, loopback, nil)
	old := serve(t, &Proxy{Pick: to(backend)})
	for range 3 {
		ask(t, client(t, old.addr), "x")
	}
	var handed []Handed
	old.HandOver(func(h Handed) { handed = append(handed, h) })
	_ = old.stop()
	l, err := Listen(t.Context(), old.addr)
	if err != nil {
		t.Fatal(err)
	}
	next := &Proxy{Pick: to(), Room: &Room{Max: 2}}
	ended := 0
	next.OnFlow = func(_, _ netip.AddrPort, open bool) {
		if !open {
			ended++
		}
	}
	for _, h := range handed {
		next.Adopt(h)
	}
	taker := serveOn(t, next, l)
	await(t, "the flows are there", func() bool { return taker.Stats().Opened == 3 })
	if s := taker.Stats(); s.Flows != 2 || s.Evicted != 1 {
		t.Errorf("%+v", s)
	}
	_ = taker.stop()
	if ended != 3 {
		t.Errorf("told of %d ends", ended)
	}
}
