package main

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

func TestSharesAreWhatTheAgentTells(t *testing.T) {
	s := model.Service{
		Listen: netip.MustParseAddrPort("203.0.113.10:80"), LastPort: 80, Protocol: model.TCP, SlowStart: time.Minute,
		Backends: []model.Backend{
			{Address: netip.MustParseAddrPort("10.2.1.2:8080")}, {Address: netip.MustParseAddrPort("10.2.1.3:8080")}, {Address: netip.MustParseAddrPort("10.2.1.4:8080")},
		},
	}
	dir := t.TempDir()
	shares := func() []int {
		t.Helper()
		of, err := toldShares(dir)
		if err != nil {
			t.Fatal(err)
		}
		return of(&s)
	}
	if got := shares(); got != nil {
		t.Errorf("where no agent tells anything, shares are %v", got)
	}
	told := view.Service{Listen: "203.0.113.10:80", Protocol: model.TCP, Backends: []view.Backend{
		{Address: "10.2.1.2:8080", Share: 100}, {Address: "10.2.1.3:8080", Share: 35},
	}}
	other := told
	other.Protocol = model.UDP
	if err := view.Write(dir, view.View{Services: []view.Service{other, told}}); err != nil {
		t.Fatal(err)
	}
	if got, want := shares(), []int{20, 7, 2}; !slices.Equal(got, want) {
		t.Errorf("shares %v, want %v: whole, as told, and at its beginning", got, want)
	}
	s.SlowStart = 0
	if got := shares(); got != nil {
		t.Errorf("of a service that nobody starts slowly in, shares are %v", got)
	}
}
