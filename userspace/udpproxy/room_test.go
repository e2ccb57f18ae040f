package udpproxy

import (
	"net/netip"
	"sync"
	"testing"
)

func TestAFloodTakesNoRoomFromOthers(t *testing.T) {
	room := &Room{Max: 6}
	back := echo(t, loopback, nil)
	quiet := serve(t, &Proxy{Pick: to(back), Room: room})
	flooded := serve(t, &Proxy{Pick: to(back), Room: room})
	first, second := client(t, quiet.addr), client(t, quiet.addr)
	ask(t, first, "first")
	ask(t, second, "second")
	for range 20 {
		ask(t, client(t, flooded.addr), "flood")
	}
	if s := flooded.Stats(); s.Flows != 4 || s.Evicted != 16 || s.Dropped != 0 {
		t.Errorf("flooded %+v", s)
	}
	ask(t, client(t, quiet.addr), "third")
	ask(t, first, "first")
	if s := quiet.Stats(); s.Flows != 3 || s.Opened != 3 || s.Evicted != 0 {
		t.Errorf("quiet %+v", s)
	}
	if s := flooded.Stats(); s.Flows != 3 || s.Evicted != 17 {
		t.Errorf("flooded %+v, want it to make room for the quiet one", s)
	}
	_ = flooded.stop()
	if n := room.Flows(); n != 3 {
		t.Errorf("%d flows, want those of the quiet one", n)
	}
	for range 3 {
		ask(t, client(t, quiet.addr), "more")
	}
	if s := quiet.Stats(); s.Flows != 6 || s.Evicted != 0 {
		t.Errorf("alone: %+v", s)
	}
}

func TestRoomThatOthersAreTakingDropsTheDatagram(t *testing.T) {
	room := &Room{Max: 1}
	p := serve(t, &Proxy{Pick: to(echo(t, loopback, nil)), Room: room})
	other := &Proxy{Room: room}
	if !room.take(other) { // for a flow that is only being made
		t.Fatal("no room")
	}
	c := client(t, p.addr)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	await(t, "the datagram is dropped", func() bool { return p.Stats().Dropped == 1 })
	room.give()
	ask(t, c, "y")
	if s := p.Stats(); s.Flows != 1 || s.Opened != 1 || s.NoBackend != 0 {
		t.Errorf("stats %+v", s)
	}
}

// What fails on its way to a flow gives its place back.
func TestRoomIsGivenBack(t *testing.T) {
	room := &Room{Max: 2}
	p := serve(t, &Proxy{Pick: to(netip.MustParseAddrPort("[fe80::1]:9")), Room: room})
	c := client(t, p.addr)
	for n := uint64(1); n <= 3; n++ {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		await(t, "the dial fails", func() bool { return p.Stats().Dropped == n })
	}
	if room.Flows() != 0 {
		t.Errorf("%d places are taken", room.Flows())
	}
}

// Proxies that take each other's flows at once keep the bound and lose nothing.
func TestRoomUnderPressure(t *testing.T) {
	room := &Room{Max: 8}
	back := echo(t, loopback, nil)
	var wg sync.WaitGroup
	var all []*running
	for range 3 {
		p := serve(t, &Proxy{Pick: to(back), Room: room})
		all = append(all, p)
		for range 6 {
			c := client(t, p.addr)
			wg.Go(func() {
				for range 30 {
					if !insist(c, "hello") {
						t.Error("no answer")
						return
					}
					if n := room.Flows(); n > 8 {
						t.Errorf("%d flows", n)
					}
				}
			})
		}
	}
	wg.Wait()
	for _, p := range all {
		_ = p.stop()
	}
	if n, active := room.Flows(), room.active.Load(); n != 0 || active != 0 || len(room.members) != 0 {
		t.Errorf("%d flows, %d proxies active and %d members are left", n, active, len(room.members))
	}
}
