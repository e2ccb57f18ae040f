package udpproxy

import (
	"net/netip"
	"testing"
)

func BenchmarkRequests(b *testing.B) {
	back := echo(b, loopback, nil)
	for _, row := range []struct {
		name string
		addr netip.AddrPort
	}{
		{"direct", back},
		{"proxy", serve(b, &Proxy{Pick: to(back)}).addr},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				c := client(b, row.addr)
				for pb.Next() {
					if !insist(c, "a datagram of usual length") {
						b.Error("no answer")
						return
					}
				}
			})
		})
	}
}

func BenchmarkNewFlows(b *testing.B) {
	p := serve(b, &Proxy{Pick: to(echo(b, loopback, nil)), Room: &Room{Max: 1000}})
	for b.Loop() {
		c := client(b, p.addr)
		if !insist(c, "first") {
			b.Fatal("no answer")
		}
		c.Close()
	}
}
