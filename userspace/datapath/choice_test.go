package datapath

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/userspace/balance"
	"fairlead/userspace/model"
)

func mask(text string) loader.Address {
	a := loader.AddressOf(netip.MustParseAddr(text))
	if netip.MustParseAddr(text).Is4() {
		clear(a.Word[:3])
	}
	return a
}

func TestRowsSayHowToChoose(t *testing.T) {
	type choice struct {
		Balance           loader.LBBalance
		Seed              uint64
		Mask              loader.Address
		Affinity, MaxLoad uint32
		Weights, All      uint32
	}
	whole := mask("255.255.255.255")
	six := ofIPv6(service("a", 80, 3, 2))
	six.SourcePrefix, six.Balance = 64, model.Balance{Method: model.SourceHash, TableSize: 7}
	of := func(b model.Balance) Service {
		s := service("a", 80, 3, 2)
		s.Balance = b
		return s
	}
	with := func(s Service, edit func(*Service)) Service {
		edit(&s)
		return s
	}
	for _, row := range []struct {
		name    string
		service Service
		want    choice
	}{
		{"nothing", service("a", 80, 3, 2), choice{Mask: whole, Weights: 5, All: 5}},
		{"random", of(model.Balance{Method: model.Random}), choice{Balance: loader.LBBalanceBALANCE_RANDOM, Mask: whole, Weights: 5, All: 5}},
		{"p2c", of(model.Balance{Method: model.P2C}), choice{Balance: loader.LBBalanceBALANCE_P2C, Mask: whole, Weights: 5, All: 5}},
		{"least", of(model.Balance{Method: model.LeastConnections}), choice{Balance: loader.LBBalanceBALANCE_LEAST, Mask: whole, Weights: 5, All: 5}},
		{"response times", of(model.Balance{Method: model.ResponseTime}), choice{Mask: whole, Weights: 5, All: 5}},
		{"maglev", of(model.Balance{Method: model.Maglev, TableSize: 7, Seed: 9, MaxLoad: 125}),
			choice{Balance: loader.LBBalanceBALANCE_HASH, Seed: 9, Mask: whole, MaxLoad: 125, Weights: 5, All: 5}},
		{"sources", with(of(model.Balance{Method: model.SourceHash, TableSize: 7}), func(s *Service) { s.SourcePrefix = 24 }),
			choice{Balance: loader.LBBalanceBALANCE_SOURCE_HASH, Mask: mask("255.255.255.0"), Weights: 5, All: 5}},
		{"sources of IPv6", six, choice{Balance: loader.LBBalanceBALANCE_SOURCE_HASH, Mask: mask("ffff:ffff:ffff:ffff::"), Weights: 5, All: 5}},
		{"affinity", with(service("a", 80, 3, 2), func(s *Service) { s.Affinity = time.Minute }),
			choice{Mask: whole, Affinity: 60, Weights: 5, All: 5}},
		{"one down", with(service("a", 80, 3, 2), func(s *Service) { s.Down = []bool{true, false} }), choice{Mask: whole, Weights: 2, All: 5}},
		{"shares", with(service("a", 80, 3, 2), func(s *Service) { s.Shares = []int{2, balance.Whole} }), choice{Mask: whole, Weights: 46, All: 46}},
	} {
		r := empty(2)
		execute(t, r, mustPlan(t, r, &Want{Services: []Service{row.service}}))
		x := &r.services[0]
		got := choice{loader.LBBalance(x.Balance), x.Seed, loader.Address(x.SourceMask), x.Affinity, x.MaxLoad, x.Weights, x.WeightsAll}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
}

func TestSharesAreInTheTable(t *testing.T) {
	r := empty(2)
	s := service("a", 80, 1, 1)
	s.Shares = []int{balance.Whole / 2, balance.Whole}
	execute(t, r, mustPlan(t, r, &Want{Services: []Service{s}}))
	if got := table(r, 0); !slices.Equal(got, []string{"10.2.1.2", "10.2.0.2", "10.2.1.2"}) {
		t.Errorf("table %v, want two slots of three for the second", got)
	}
	if a, b := r.backends[0].Weight, r.backends[1].Weight; 2*a != b {
		t.Errorf("weights of rows are %d and %d, want half", a, b)
	}
}

// TestBackupsHaveNoWeightWhileTheyWait asks for the rows too: who comes back to
// the backend that it had goes by these.
func TestBackupsHaveNoWeightWhileTheyWait(t *testing.T) {
	type held struct {
		Up, All []string
		Weights []uint32
	}
	first, second := []string{"10.2.0.2"}, []string{"10.2.1.2"}
	for _, row := range []struct {
		name string
		down []bool
		want held
	}{
		{"nobody is down", nil, held{first, first, []uint32{3, 0}}},
		{"the first is down", []bool{true, false}, held{second, first, []uint32{3, 2}}},
		{"the backup is down", []bool{false, true}, held{first, first, []uint32{3, 0}}},
		{"both are down", []bool{true, true}, held{nil, first, []uint32{3, 0}}},
	} {
		r := empty(2)
		s := service("a", 80, 3, 2)
		s.Backends[1].Backup, s.Down = true, row.down
		execute(t, r, mustPlan(t, r, &Want{Services: []Service{s}}))
		names := func(table uint64) (all []string) {
			for _, slot := range r.at(table) {
				all = append(all, s.Backends[slot].Address.Addr().String())
			}
			return all
		}
		x := &r.services[0]
		got := held{names(x.Slots), names(x.SlotsAll), []uint32{r.backends[0].Weight, r.backends[1].Weight}}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
}
