package udpproxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAFlowIsToldBeforeItsFirstDatagramAndAfterItsLast(t *testing.T) {
	var j journal
	back := echo(t, loopback, func(d datagram) { j.add(d.text) })
	p := serve(t, &Proxy{Pick: to(back), OnFlow: j.onFlow})
	c := client(t, p.addr)
	ask(t, c, "one")
	p.expire(time.Now().Add(time.Hour))
	ask(t, c, "two")
	if err := p.stop(); !errors.Is(err, errStopped) {
		t.Errorf("Serve returned %v", err)
	}
	if diff := cmp.Diff([]string{"open", "one", "gone", "open", "two", "gone"}, j.all()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if s := p.Stats(); s.Opened != 2 || s.Expired != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestTheLongestSilentFlowGoesFirst(t *testing.T) {
	gone := make(chan netip.AddrPort, 10)
	answer := make(chan string, 1)
	back := bind(t, loopback)
	p := serve(t, &Proxy{Pick: to(addrPort(back.LocalAddr())), Room: &Room{Max: 3}, OnFlow: func(client, _ netip.AddrPort, open bool) {
		if !open {
			gone <- client
		}
	}})
	var conns []*net.UDPConn
	var from []netip.AddrPort
	send := func(c *net.UDPConn) netip.AddrPort {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = back.SetReadDeadline(time.Now().Add(patience))
		_, from, err := back.ReadFromUDPAddrPort(make([]byte, 1))
		if err != nil {
			t.Fatal(err)
		}
		return from
	}
	for range 5 {
		conns = append(conns, client(t, p.addr))
	}
	for _, c := range conns[:3] {
		from = append(from, send(c))
	}
	// 0 speaks again and 1 is answered, so 2 is the silent one.
	send(conns[0])
	if _, err := back.WriteToUDPAddrPort([]byte("y"), from[1]); err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 1)
		_ = conns[1].SetReadDeadline(time.Now().Add(patience))
		_, _ = conns[1].Read(buf)
		answer <- string(buf)
	}()
	if got := <-answer; got != "y" {
		t.Fatalf("answer %q", got)
	}
	for i, want := range []int{2, 0} {
		send(conns[3+i])
		if got := <-gone; got != addrPort(conns[want].LocalAddr()) {
			t.Errorf("the flow of %v went, want %v", got, conns[want].LocalAddr())
		}
	}
	if s := p.Stats(); s.Flows != 3 || s.Evicted != 2 || s.Opened != 5 {
		t.Errorf("stats %+v", s)
	}
}

func TestFlowsExpireByThemselves(t *testing.T) {
	p := serve(t, &Proxy{Pick: to(echo(t, loopback, nil)), Idle: 10 * time.Millisecond})
	if _, err := client(t, p.addr).Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	await(t, "the flow is gone", func() bool { return p.Stats().Expired == 1 })
	if s := p.Stats(); s.Flows != 0 || s.Opened != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestOnlySilentFlowsExpire(t *testing.T) {
	p := serve(t, &Proxy{Pick: to(echo(t, loopback, nil))})
	old, young := client(t, p.addr), client(t, p.addr)
	ask(t, old, "x")
	ask(t, young, "x")
	time.Sleep(time.Millisecond)
	between := time.Now()
	ask(t, old, "y")
	if p.expire(between) {
		t.Error("there may be more")
	}
	if s := p.Stats(); s.Flows != 1 || s.Expired != 1 {
		t.Errorf("stats %+v", s)
	}
	ask(t, old, "z")
	if s := p.Stats(); s.Opened != 2 {
		t.Errorf("the busy flow went: %+v", s)
	}
}

func TestARefusedFlowMovesWithTheNextDatagram(t *testing.T) {
	var j journal
	dead := deadPort(t)
	pick := to(dead, echo(t, loopback, nil))
	told := make(chan error, 2)
	p := serve(t, &Proxy{OnFlow: j.onFlow, Pick: func(c, l netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		addr, _, ok := pick(c, l, tried)
		return addr, func(err error) { told <- err }, ok
	}})
	c := client(t, p.addr)
	if _, err := c.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	if err := <-told; !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the dead backend was told %v", err)
	}
	ask(t, c, "hello")
	s := p.Stats()
	if s.Flows != 1 || s.Opened != 1 || s.Moved != 1 || s.Refused != 1 {
		t.Errorf("stats %+v", s)
	}
	if diff := cmp.Diff([]string{"open"}, j.all()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	_ = p.stop()
	if err := <-told; err != nil {
		t.Errorf("the good backend was told %v", err)
	}
}

func TestTheOnlyBackendIsTriedAgainAfterItRefused(t *testing.T) {
	addr := deadPort(t)
	p := serve(t, &Proxy{Pick: to(addr)})
	c := client(t, p.addr)
	for n := uint64(1); n <= 3; n++ {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		await(t, "the backend refuses", func() bool { return p.Stats().Refused == n })
	}
	echo(t, addr, nil)
	ask(t, c, "x")
}

func TestClosedBackendsLoseTheirFlowsAtOnce(t *testing.T) {
	var j journal
	old := bind(t, loopback)
	oldAddr := addrPort(old.LocalAddr())
	var current atomic.Pointer[netip.AddrPort]
	current.Store(&oldAddr)
	p := serve(t, &Proxy{OnFlow: j.onFlow, Pick: func(_, _ netip.AddrPort, _ []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		return *current.Load(), nil, true
	}})
	c := client(t, p.addr)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = old.SetReadDeadline(time.Now().Add(patience))
	_, from, err := old.ReadFromUDPAddrPort(make([]byte, 1))
	if err != nil {
		t.Fatal(err)
	}
	young := echo(t, loopback, nil)
	current.Store(&young)
	if n := p.CloseBackend(oldAddr); n != 1 {
		t.Errorf("closed %d flows", n)
	}
	if _, err := old.WriteToUDPAddrPort([]byte("late"), from); err != nil {
		t.Fatal(err)
	}
	ask(t, c, "hello") // and not "late"
	if n := p.CloseBackend(oldAddr); n != 0 {
		t.Errorf("closed %d flows again", n)
	}
	if diff := cmp.Diff([]string{"open"}, j.all()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if s := p.Stats(); s.Flows != 1 || s.Moved != 1 || s.Refused != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestABackendClosedWhileItIsPickedIsNotUsed(t *testing.T) {
	doomed, good := bind(t, loopback), echo(t, loopback, nil)
	p := &Proxy{}
	picks := 0
	p.Pick = func(_, _ netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		if picks++; picks == 1 {
			p.CloseBackend(addrPort(doomed.LocalAddr()))
			return addrPort(doomed.LocalAddr()), nil, true
		}
		return good, nil, len(tried) == 0
	}
	ask(t, client(t, serve(t, p).addr), "x")
}

// Every way for a flow to end at once: what is left at the end must add up.
func TestFlowsAddUpUnderPressure(t *testing.T) {
	one, two := echo(t, loopback, nil), echo(t, loopback, nil)
	var n, open, done, picked atomic.Int64
	live := map[string]bool{}
	p := serve(t, &Proxy{
		Room: &Room{Max: 8},
		Idle: 20 * time.Millisecond,
		Pick: func(_, _ netip.AddrPort, _ []netip.AddrPort) (netip.AddrPort, func(error), bool) {
			picked.Add(1)
			return []netip.AddrPort{one, two}[n.Add(1)%2], func(error) { done.Add(1) }, true
		},
		OnFlow: func(client, local netip.AddrPort, o bool) {
			k := fmt.Sprint(client, local)
			if live[k] == o {
				t.Errorf("%s: told open %v twice", k, o)
			}
			live[k] = o
			open.Add(map[bool]int64{true: 1, false: -1}[o])
		},
	})
	var wg sync.WaitGroup
	for i := range 16 {
		c := client(t, p.addr)
		wg.Go(func() {
			for range 40 {
				if !insist(c, fmt.Sprint("hello from ", i)) {
					t.Error("no answer")
					return
				}
				if i == 0 {
					p.CloseBackend(one)
				}
			}
		})
	}
	wg.Wait()
	if s := p.Stats(); s.Flows > 8 {
		t.Errorf("%d flows", s.Flows)
	}
	_ = p.stop()
	if s := p.Stats(); s.Flows != 0 || open.Load() != 0 || done.Load() != picked.Load() {
		t.Errorf("%d flows open by OnFlow, %d of %d picks done; stats %+v", open.Load(), done.Load(), picked.Load(), s)
	}
}
