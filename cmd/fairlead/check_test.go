package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// TestCheckFindsPortsOfOtherPrograms but not those of the agent that it may be for.
func TestCheckFindsPortsOfOtherPrograms(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at, dir := netip.MustParseAddrPort(l.Addr().String()), t.TempDir()
	conf := configFile(t, fmt.Sprintf("xdp: off\nservices:\n  - {name: web, listen: '%s', backends: [{address: '127.0.0.1:1'}]}\n", at))
	w := world{taken: taken, look: func(*model.State, string) ([]string, error) { return nil, nil }}
	want := fmt.Sprintf("fairlead: service web: this host listens on tcp port %d itself (%s): stop that program, or choose another port\n", at.Port(), at)
	for _, row := range []struct {
		name string
		view view.Service
		code int
		want string
	}{
		{"no agent", view.Service{}, 1, want},
		{"an agent that has it", view.Service{Listen: at.String(), Protocol: model.TCP, Standby: true}, 0, ""},
		{"an agent that has a range with it", view.Service{Listen: fmt.Sprintf("127.0.0.1:1-%d", at.Port()), Protocol: model.TCP, Standby: true}, 0, ""},
		{"an agent that wants it", view.Service{Listen: at.String(), Protocol: model.TCP}, 1, want},
		{"an agent that has it for UDP", view.Service{Listen: at.String(), Protocol: model.UDP, Standby: true}, 1, want},
		{"an agent that has the port of another address", view.Service{Listen: fmt.Sprint("127.0.0.2:", at.Port()), Protocol: model.TCP, Standby: true}, 1, want},
		{"an agent that has a range without it", view.Service{Listen: fmt.Sprintf("127.0.0.1:1-%d", at.Port()-1), Protocol: model.TCP, Standby: true}, 1, want},
	} {
		if row.view.Listen != "" {
			if err := view.Write(dir, view.View{Services: []view.Service{row.view}}); err != nil {
				t.Fatal(err)
			}
		}
		if code, _, errOut := run(t, t.Context(), w, "check", "--config", conf, "--run-dir", dir); code != row.code || errOut != row.want {
			t.Errorf("%s: status %d, stderr %q; want %d, %q", row.name, code, errOut, row.code, row.want)
		}
	}
}

// TestCheckFindsWhoStandsInTheWayOfAllAddresses of a port by having one of them.
func TestCheckFindsWhoStandsInTheWayOfAllAddresses(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at, dir := netip.MustParseAddrPort(l.Addr().String()), t.TempDir()
	w := world{taken: taken, look: func(*model.State, string) ([]string, error) { return nil, nil }}
	for _, row := range []struct {
		listen string
		view   string // what an agent has
		code   int
	}{
		{"0.0.0.0", "", 1},
		{"0.0.0.0", "127.0.0.1", 0},
		{"[::]", "", 0},
		{"127.0.0.2", "", 0},
	} {
		v := view.View{}
		if row.view != "" {
			v.Services = []view.Service{{Listen: fmt.Sprintf("%s:%d", row.view, at.Port()), Protocol: model.TCP, Standby: true}}
		}
		if err := view.Write(dir, v); err != nil {
			t.Fatal(err)
		}
		conf := configFile(t, fmt.Sprintf("xdp: off\nservices:\n  - {name: web, listen: '%s:%d', forward: proxy, backends: [{address: '127.0.0.1:1'}]}\n", row.listen, at.Port()))
		want := ""
		if row.code != 0 {
			want = fmt.Sprintf("fairlead: service web: this host listens on tcp port %d itself (%s): stop that program, or choose another port\n", at.Port(), at)
		}
		if code, _, errOut := run(t, t.Context(), w, "check", "--config", conf, "--run-dir", dir); code != row.code || errOut != want {
			t.Errorf("%s beside an agent on %q: status %d, stderr %q; want %d, %q", row.listen, row.view, code, errOut, row.code, want)
		}
	}
}

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
