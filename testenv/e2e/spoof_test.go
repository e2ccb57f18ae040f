package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/livegen"
	"fairlead/testenv/stage"
)

// A flow made for a SYN that pretends to come from the balancer would take the
// answers to the balancer's own connections away from it.
func TestOwnConnectionsLiveThroughSpoofedSYNs(t *testing.T) {
	s, _ := checked(t)
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	account := s.Account()
	stop := keepAskingBackends(t, s)
	sent := 0
	for range slow(2, 100) {
		for _, addr := range s.BackendAddrs {
			own := addr.Prev() // by which the balancer reaches that backend
			r, err := spoofer(t, s, own).Send(65535)
			if err != nil {
				t.Fatal(err)
			}
			sent += r.Sent
		}
	}
	stop()
	sums := account.Close()
	if v := s.Stats().Verdicts; sums.Dropped != uint64(sent) || v["drop_source"] != sums.Dropped {
		t.Errorf("%d spoofed SYNs sent, %d frames dropped, %d of them for their source", sent, sums.Dropped, v["drop_source"])
	}
	after, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range after.Services[0].Backends {
		if !b.Up || !b.Since.Equal(v.Services[0].Backends[i].Since) {
			t.Errorf("health of %s has changed: up %t since %s: %s", b.Address, b.Up, b.Since, b.LastError)
		}
	}
}

// spoofer sends SYNs from every port of an address of the balancer.
func spoofer(t *testing.T, s *stage.Stage, own netip.Addr) *livegen.Generator {
	t.Helper()
	return livegen.New(t, livegen.Options{
		Host: s.Clients[0], Iface: testenv.Uplink,
		Frame: testenv.TCPFrame(testenv.FrameSpec{
			SrcMAC: testenv.MAC(s.ClientAddrs[0]), DstMAC: testenv.MAC(s.ClientAddrs[0].Prev()), Flags: testenv.SYN,
			Src: netip.AddrPortFrom(own, 1), Dst: netip.MustParseAddrPort(vip + ":80"),
		}),
		Vary: livegen.Vary{Ports: 65535},
	})
}

// keepAskingBackends connects from the balancer to each backend, over and
// over, and asserts that no connection fails.
func keepAskingBackends(t *testing.T, s *stage.Stage) (stop func()) {
	t.Helper()
	var wg sync.WaitGroup
	end := make(chan struct{})
	errs := make([]error, len(s.BackendAddrs))
	for i, addr := range s.BackendAddrs {
		wg.Go(func() {
			for n := 0; errs[i] == nil; n++ {
				select {
				case <-end:
					return
				default:
				}
				if _, err := stage.GetFrom(s.Balancer, fmt.Sprintf("http://%s:8080/", addr)); err != nil {
					errs[i] = fmt.Errorf("after %d good ones: %w", n, err)
				}
			}
		})
	}
	return sync.OnceFunc(func() {
		t.Helper()
		close(end)
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Errorf("the balancer's own connections: %v", err)
		}
	})
}
