package refmodel

import (
	"net/netip"
	"testing"
)

// TestClientHash has the examples of the rules.
func TestClientHash(t *testing.T) {
	for _, test := range []struct {
		balance  uint8
		src, dst string
		want     uint64
	}{
		{BalanceHash, "198.51.100.1:40000", "203.0.113.10:80", 0x8f6ef9696bf42744},
		{BalanceSourceHash, "198.51.100.1:40000", "203.0.113.10:80", 0x8c5d1e48f4dfefdc},
		{BalanceHash, "[2001:db8::1]:40000", "[2001:db8::10]:443", 0x2cbafe6582660a1e},
	} {
		src, dst := netip.MustParseAddrPort(test.src), netip.MustParseAddrPort(test.dst)
		s := Service{Balance: test.balance, Seed: 7, SourceMask: netip.MustParseAddr("255.255.255.0")}
		got := s.hash(Tuple{Src: src.Addr(), SPort: src.Port(), Dst: dst.Addr(), DPort: dst.Port(), Proto: TCP})
		if got != test.want {
			t.Errorf("hash of %v to %v is %#016x, want %#016x", src, dst, got, test.want)
		}
	}
}

// TestClientsAreSpreadEvenly takes clients that differ as little as they do in
// life: in their last byte and in ports that follow one another.
func TestClientsAreSpreadEvenly(t *testing.T) {
	const clients, limit = 200_000, 0.02
	for _, balance := range []uint8{BalanceHash, BalanceSourceHash} {
		for _, slots := range []uint64{2, 3, 8, 10} {
			s := Service{Balance: balance, SourceMask: netip.MustParseAddr("255.255.255.255")}
			counts := make([]float64, slots)
			for i := range clients {
				from := Tuple{Src: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Dst: vip, DPort: 80, Proto: TCP}
				if balance == BalanceHash {
					from.Src, from.SPort = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), uint16(1024+i>>8)
				}
				counts[s.hash(from)%slots]++
			}
			for slot, n := range counts {
				if share := n * float64(slots) / clients; share < 1-limit || share > 1+limit {
					t.Errorf("balance %d, %d slots: slot %d gets %.3f of its share", balance, slots, slot, share)
				}
			}
		}
	}
}
