package main

import (
	"slices"
	"testing"

	"fairlead/userspace/model"
)

func TestCheckFindsAZoneThatNobodyIsIn(t *testing.T) {
	const warning = "zone: no backend is in esat: they are in east, west"
	for _, row := range []struct {
		host  string
		zones []string
		want  []string
	}{
		{"esat", []string{"west", "east", ""}, []string{warning}},
		{"east", []string{"west", "east"}, nil},
		{"", []string{"west"}, nil},
		{"esat", []string{""}, nil},
	} {
		state := model.State{Services: []model.Service{{Zone: row.host}, {Zone: row.host}}}
		for _, zone := range row.zones {
			s := &state.Services[1]
			s.Backends = append(s.Backends, model.Backend{Zone: zone})
		}
		if got := lonelyZones(&state); !slices.Equal(got, row.want) {
			t.Errorf("host in %q, backends in %q: %q, want %q", row.host, row.zones, got, row.want)
		}
	}
}
