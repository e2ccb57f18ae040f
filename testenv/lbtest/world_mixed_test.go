package lbtest

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"fairlead/loader"
	"fairlead/testenv"
)

// The world between families has web6 and dns6 with backends of IPv4, web and
// dns with backends of IPv6, and at the address of these a service of IPv4 alone.
const someID = 0x2b1a // what becomes the id of packets that may be cut up

// mapped is an address of IPv4 as the wide programs have it.
func mapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
}

func newWorldMixed(tb testing.TB, fault uint32) *world {
	tb.Helper()
	return &world{tb: tb, Datapath: LoadMixed(tb, sizes(ipv6), fault), mixed: true}
}

// drawID makes someID the lower half of the next random number, as the kernel has it.
func (w *world) drawID() {
	w.tb.Helper()
	const inverse = 4276115653 // of the generator's factor, mod 2^32: see bpf/test/env.h
	next := uint32(port16(someID)) << 16
	w.must(w.SetRandom((next - 1013904223) * inverse))
}

func (w *world) settleMixed() {
	w.tb.Helper()
	w.control(func(c *loader.Control) {
		c.SnatPort, c.SnatPorts, c.MixedPort, c.MixedPorts = own6.Port(), 1, own.Port(), 1
	})
	w.put(loader.LBMapSnat, uint32(3), loader.AddressOf(own.Addr()))
	w.put(loader.LBMapSnat, uint32(4), loader.AddressOf(own6.Addr()))
	for i, s := range []struct {
		at, backend netip.AddrPort
		proto       uint8
		source      uint32
	}{
		{web6, mapped(back1), tcp, 3}, {dns6, mapped(dns1), udp, 3},
		{mapped(web), webBack6, tcp, 4}, {mapped(dns), dnsBack6, udp, 4},
	} {
		service, row := uint32(1+i), uint32(2+i)
		w.service(service, s.at, s.proto, func(v *loader.Service) {
			v.Slots, v.SlotsAll = uint64(i)<<32|1, uint64(i)<<32|1
			v.Flags |= fullNAT
		})
		w.backend(row, s.backend, service, func(b *loader.Backend) { b.Sources = s.source<<16 | 1 })
		w.put(loader.LBMapSlots, uint32(i), row)
		w.route(s.backend, RouteFound, uplink)
	}
	w.route(client6, RouteFound, Ingress)
	w.route(mapped(client), RouteFound, Ingress)
	w.put(loader.LBMapListeners, loader.Listener{Addr: addr32(proxy.Addr()), Port: port16(proxy.Port()), Proto: tcp}, uint32(5))
	w.must(w.Maps[loader.LBMapVips].Put(proxy.Addr().AsSlice(), uint32(loader.LBAddressUseADDRESS_SERVICE)))
	w.put(loader.LBMapServices, uint32(5), loader.Service{Gen: 75, State: uint8(loader.LBServiceStateSERVICE_PROXY)})
}

// in4 is a frame of IPv4 as it leaves in the place of one of IPv6.
func in4(frame []byte, id uint16) []byte {
	out := edit(frame, 18, byte(id>>8), byte(id))
	if id == 0 {
		out[20] = 0x40 // don't fragment
	}
	binary.BigEndian.PutUint16(out[24:], 0)
	binary.BigEndian.PutUint16(out[24:], ^testenv.Sum(out[14:34], 0))
	return out
}

// in6 is a frame of IPv6 as it leaves in the place of one of IPv4, to a neighbour
// of the addresses' own.
func in6(frame []byte) []byte { return left6(frame) }

// long4 and long6 are datagrams with so many bytes behind UDP.
func long4(src, dst netip.AddrPort, n int) []byte {
	return testenv.UDPFrame(testenv.FrameSpec{Src: src, Dst: dst, Payload: make([]byte, n)})
}

func long6(src, dst netip.AddrPort, n int) []byte {
	like := long4(netip.AddrPortFrom(client.Addr(), src.Port()), netip.AddrPortFrom(web.Addr(), dst.Port()), n)
	return packet6(src, dst, udp, like[34:], 6)
}

// fromUs is a frame with our MAC address as its source and one hop less.
func fromUs(frame []byte) []byte {
	out := edit(frame, 6, testenv.MAC(router)...)
	out[22]--
	return out
}

// narrowedMixed makes the way to an address one for packets of at most so many bytes.
func narrowedMixed(to netip.AddrPort, longest uint16) func(*world) {
	return narrowed6(to, longest)
}
