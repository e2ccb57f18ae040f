package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"fairlead/loader"
)

// A listener is what clients connect to.
type listener struct {
	at    netip.AddrPort
	proto uint8
}

// A network is one that the service in a row, or everyService, has a rule for.
type network struct {
	service uint32
	prefix  netip.Prefix
}

// A kernelMap is where entries are written.
type kernelMap[K comparable, V any] interface {
	put(keys []K, values []V) error
	delete(key K) error
}

// A half is a map whose keys the kernel has as F. Of a map that each family has
// for itself it is that of one; m is nil then if the instance is without it.
type half[K comparable, F comparable, V any] struct {
	m    *ebpf.Map
	to   func(K) F
	from func(F) K
}

func (h half[K, F, V]) read(into map[K]V) error {
	if h.m == nil {
		return nil
	}
	have, err := loader.ReadHash[F, V](h.m)
	for k, v := range have {
		into[h.from(k)] = v
	}
	return err
}

func (h half[K, F, V]) put(keys []K, values []V) error {
	if len(keys) == 0 {
		return nil
	}
	if h.m == nil {
		return fmt.Errorf("tables of IPv6: %w", ErrFull)
	}
	raw := make([]F, len(keys))
	for i, k := range keys {
		raw[i] = h.to(k)
	}
	return batchUpdate(h.m, raw, values)
}

func (h half[K, F, V]) delete(key K) error {
	if h.m == nil {
		return ebpf.ErrKeyNotExist
	}
	raw := h.to(key)
	return h.m.Delete(&raw)
}

// A split is a map that each family has for itself.
type split[K comparable, F4, F6 comparable] struct {
	four half[K, F4, uint32]
	six  half[K, F6, uint32]
	is6  func(K) bool
}

func (s split[K, F4, F6]) read() (map[K]uint32, error) {
	all := map[K]uint32{}
	if err := s.four.read(all); err != nil {
		return nil, err
	}
	return all, s.six.read(all)
}

// put writes entries in their order, by family.
func (s split[K, F4, F6]) put(keys []K, values []uint32) error {
	var keys4, keys6 []K
	var values4, values6 []uint32
	for i, k := range keys {
		if s.is6(k) {
			keys6, values6 = append(keys6, k), append(values6, values[i])
		} else {
			keys4, values4 = append(keys4, k), append(values4, values[i])
		}
	}
	if err := s.four.put(keys4, values4); err != nil {
		return err
	}
	return s.six.put(keys6, values6)
}

func (s split[K, F4, F6]) delete(key K) error {
	if s.is6(key) {
		return s.six.delete(key)
	}
	return s.four.delete(key)
}

// be32 returns an IPv4 address as the kernel stores it.
func be32(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

// addr4 is the reverse of be32.
func addr4(a uint32) netip.Addr {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], a)
	return netip.AddrFrom4(b)
}

// at4 and at6 return what the kernel has as an address and a port.
func at4(addr uint32, port uint16) netip.AddrPort { return netip.AddrPortFrom(addr4(addr), be16(port)) }

// wide and addr6 are addresses of IPv4 as the tables of IPv6 have them: those of
// services between families.
func wide(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }

func addr6(a loader.Address) netip.Addr { return wide(a.Addr()) }

// key6 returns what the tables of IPv6 have as an address and a port.
func key6(addr loader.Address, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(addr6(addr), be16(port))
}

func at6(addr loader.Address, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr(), be16(port))
}

// be16 returns a port as the kernel stores it, and back.
func be16(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}
