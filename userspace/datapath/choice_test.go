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

// TestPlansSayWhatMovesOfHashes plans changes of a service with a hash, whose
// slots lead to the same backend only if they are the same ones.
func TestPlansSayWhatMovesOfHashes(t *testing.T) {
	of := func(edit func(*Service)) *Want {
		s := service("a", 80, 1, 1, 1)
		s.Balance = model.Balance{Method: model.Maglev, TableSize: 31, Seed: 1}
		edit(&s)
		return &Want{Services: []Service{s}}
	}
	for _, row := range []struct {
		name        string
		edit        func(*Service)
		least, most float64
		fields      []string
	}{
		{"nothing", func(*Service) {}, 0, 0, nil},
		{"one down", func(s *Service) { s.Down = []bool{true, false, false} }, 10, 14, []string{"slots"}},
		{"another seed", func(s *Service) { s.Balance.Seed = 2 }, 31, 31, []string{"balance.seed", "slots"}},
		{"in turn", func(s *Service) { s.Balance = model.Balance{} }, 31, 31, []string{"balance", "balance.seed", "slots"}},
		{"the rest", func(s *Service) { s.Balance.MaxLoad, s.Affinity, s.SourcePrefix = 125, time.Minute, 24 }, 0, 0,
			[]string{"balance.prefix", "balance.max-load", "affinity"}},
	} {
		r := empty(4)
		execute(t, r, mustPlan(t, r, of(func(*Service) {})))
		c, err := (&Writer{rows: r}).Preview(of(row.edit), nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.Slots.Slots != 31 || c.Slots.Moved < row.least || c.Slots.Moved > row.most {
			t.Errorf("%s: %v of %d slots move, want from %v to %v", row.name, c.Slots.Moved, c.Slots.Slots, row.least, row.most)
		}
		var fields []string
		for i := range c.Services {
			for _, f := range c.Services[i].Fields {
				fields = append(fields, f.Field)
			}
		}
		if diff := cmp.Diff(row.fields, fields); diff != "" {
			t.Errorf("%s: fields (-want +got):\n%s", row.name, diff)
		}
	}
}
