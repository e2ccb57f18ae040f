package datapath

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"fairlead/loader"
	"fairlead/userspace/balance"
	"fairlead/userspace/model"
)

// kernelMethods is what the kernel does for each method. Shares by response
// time are a matter of weights.
var kernelMethods = map[model.Method]loader.LBBalance{
	model.RoundRobin:       loader.LBBalanceBALANCE_ROUND_ROBIN,
	model.Random:           loader.LBBalanceBALANCE_RANDOM,
	model.Maglev:           loader.LBBalanceBALANCE_HASH,
	model.SourceHash:       loader.LBBalanceBALANCE_SOURCE_HASH,
	model.P2C:              loader.LBBalanceBALANCE_P2C,
	model.LeastConnections: loader.LBBalanceBALANCE_LEAST,
	model.ResponseTime:     loader.LBBalanceBALANCE_ROUND_ROBIN,
}

// setChoice fills in how row, which has its address, chooses from its tables.
func (s *Service) setChoice(row *loader.Service) {
	row.Balance = uint8(kernelMethods[s.Balance.Method])
	row.Seed, row.MaxLoad = s.Balance.Seed, uint32(s.Balance.MaxLoad)
	row.Affinity = uint32(s.Affinity / time.Second)
	length := s.SourcePrefix
	if length == 0 {
		length = s.Listen.Addr().BitLen()
	}
	row.SourceMask = maskOf(row, length)
}

// v4Bits is the part of an address of either family that says that it is IPv4.
const v4Bits = 96

// maskOf returns the first bits of an address of the family of row.
func maskOf(row *loader.Service, length int) loader.Address {
	if row.Addr.Addr().Is4() {
		length += v4Bits
	}
	ones := netip.AddrFrom16([16]byte(bytes.Repeat([]byte{0xff}, 16)))
	mask := loader.AddressOf(netip.PrefixFrom(ones, length).Masked().Addr())
	if row.Addr.Addr().Is4() {
		clear(mask.Word[:3])
	}
	return mask
}

// duties are who serves a service by what is known of its backends, and who
// would if all of them were up.
type duties struct{ now, allUp balance.Duties }

func (s *Service) duties() duties {
	return duties{balance.DutiesOf(&s.Service, s.Down, s.Shares), balance.DutiesOf(&s.Service, nil, s.Shares)}
}

// weight returns what the row of the i-th backend has: one that waits has none,
// one that is down what it would have.
func (d *duties) weight(i int) uint32 { return uint32(cmp.Or(d.now.Weight(i), d.allUp.Weight(i))) }

// tables are two slot tables of a service, as indexes of its backends: that of
// the backends that serve now, and the same as if all were up.
type tables struct{ up, all []uint32 }

// tables returns those for clients of no zone, and of each. Equal weights have
// one table.
func (s *Service) tables(d *duties) []tables {
	type made struct {
		weights []int
		slots   []uint32
	}
	var known []made
	slots := func(weights []int) []uint32 {
		for _, m := range known {
			if slices.Equal(m.weights, weights) {
				return m.slots
			}
		}
		known = append(known, made{weights, balance.Slots(&s.Service, weights)})
		return known[len(known)-1].slots
	}
	all := make([]tables, len(d.now))
	for k := range all {
		all[k] = tables{all: slots(d.allUp[k].Weights), up: slots(d.now[k].Weights)}
	}
	return all
}

// sum returns the weight of the first n backends together.
func sum(d balance.Duties, n int) (weight uint32) {
	for i := range n {
		weight += uint32(d.Weight(i))
	}
	return weight
}

// choiceFields are the fields of how a service chooses.
func choiceFields(s *loader.Service) []field {
	affinity, load := "none", "none"
	if s.Affinity > 0 {
		affinity = (time.Duration(s.Affinity) * time.Second).String()
	}
	if s.MaxLoad > 0 {
		load = strconv.Itoa(int(s.MaxLoad))
	}
	return []field{
		{"balance", loader.Balance(s.Balance).String()},
		{"balance.seed", strconv.FormatUint(s.Seed, 10)},
		{"balance.prefix", strconv.Itoa(maskLength(loader.Address(s.SourceMask)))},
		{"balance.max-load", load},
		{"affinity", affinity},
	}
}

// hashes reports whether a service looks its flows up by a hash.
func hashes(s *loader.Service) bool {
	return s.Balance == uint8(loader.LBBalanceBALANCE_HASH) || s.Balance == uint8(loader.LBBalanceBALANCE_SOURCE_HASH)
}

// movedSlots returns how many slots of a service's table lead to another backend
// then. A hash finds the same one only by the same slot of as many.
func movedSlots(now, then *loader.Service, before, after []uint32) float64 {
	if !hashes(now) {
		return balance.Moved(before, after)
	}
	if now.Balance != then.Balance || now.Seed != then.Seed || len(before) != len(after) {
		return float64(len(before))
	}
	moved := 0
	for i := range before {
		if before[i] != after[i] {
			moved++
		}
	}
	return float64(moved)
}
