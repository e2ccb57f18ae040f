package e2e

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/livegen"
	"fairlead/testenv/stage"
)

// sinkPort is where the frames of a flood end: in sockets that nobody reads.
const sinkPort = 9999

// sinks is a UDP service that takes a flood.
const sinks = "  - {name: sink, listen: " + vip + ":9999, protocol: udp, backends: "

// A flood are frames that client 0 sends, until it is stopped.
type flood struct {
	gen    *livegen.Generator
	cancel context.CancelFunc
	done   chan struct{}
	result livegen.Result
	err    error
}

// openSinks lets the backends take a flood without answering it.
func openSinks(t *testing.T, s *stage.Stage) {
	t.Helper()
	for _, h := range s.Backends {
		h.ListenPacket(t, "udp4", ":9999")
	}
}

// startFlood sends datagrams of 1000 flows to the sinks, rate in a second.
func startFlood(t *testing.T, s *stage.Stage, rate int) *flood {
	t.Helper()
	f := &flood{done: make(chan struct{})}
	f.gen = livegen.New(t, livegen.Options{
		Host: s.Clients[0], Iface: testenv.Uplink,
		Frame: testenv.UDPFrame(testenv.FrameSpec{
			DstMAC:  testenv.MAC(s.ClientAddrs[0].Prev()),
			Src:     netip.AddrPortFrom(s.ClientAddrs[0], 20000),
			Dst:     netip.AddrPortFrom(netip.MustParseAddr(vip), sinkPort),
			Payload: []byte("flood"),
		}),
		Vary: livegen.Vary{Ports: 1000},
	})
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	go func() {
		f.result, f.err = f.gen.Run(ctx, rate)
		close(f.done)
	}()
	t.Cleanup(func() {
		cancel()
		<-f.done
	})
	return f
}

// stop ends the flood and returns what it was.
func (f *flood) stop(t *testing.T) livegen.Result {
	t.Helper()
	f.cancel()
	<-f.done
	if !errors.Is(f.err, context.Canceled) {
		t.Errorf("flood: %v", f.err)
	}
	return f.result
}
