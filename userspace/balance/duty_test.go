package balance

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

// teamOf returns a service with the backends that a text has, and which of them
// are down. Each is a weight and letters: b is a backup, d is down, e and w
// are in the east and the west.
func teamOf(edit func(*model.Service), backends ...string) (*model.Service, []bool) {
	s, down := &model.Service{}, []bool(nil)
	for i, text := range backends {
		b := model.Backend{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80), Weight: int(text[0] - '0')}
		isDown := false
		for _, letter := range text[1:] {
			switch letter {
			case 'b':
				b.Backup = true
			case 'd':
				isDown = true
			case 'e':
				b.Zone = "east"
			case 'w':
				b.Zone = "west"
			}
		}
		s.Backends, down = append(s.Backends, b), append(down, isDown)
	}
	if edit != nil {
		edit(s)
	}
	return s, down
}

func wantDuty(t *testing.T, name string, got Duty, serving model.Serving, weights []int) {
	t.Helper()
	if got.Serving != serving {
		t.Errorf("%s: serving %s, want %s", name, got.Serving, serving)
	}
	if diff := cmp.Diff(weights, got.Weights); diff != "" {
		t.Errorf("%s: weights (-want +got):\n%s", name, diff)
	}
}

func TestDuty(t *testing.T) {
	for _, row := range []struct {
		name     string
		backends []string
		serving  model.Serving
		weights  []int
	}{
		{"no backend", nil, model.ServingNone, []int{}},
		{"all up", []string{"1", "3"}, model.ServingUp, []int{1, 3}},
		{"one down", []string{"1d", "3"}, model.ServingUp, []int{0, 3}},
		{"all down", []string{"1d", "3d"}, model.ServingNone, []int{0, 0}},
		{"a backup waits", []string{"2", "1b"}, model.ServingUp, []int{2, 0}},
		{"a backup waits for the last one", []string{"2d", "3", "1b"}, model.ServingUp, []int{0, 3, 0}},
		{"a backup serves", []string{"2d", "5b"}, model.ServingBackups, []int{0, 5}},
		{"backups that are up serve", []string{"2d", "5b", "1bd", "4b"}, model.ServingBackups, []int{0, 5, 0, 4}},
		{"a backup serves while all others drain", []string{"0", "0d", "5b"}, model.ServingBackups, []int{0, 0, 5}},
		{"backups are down", []string{"2d", "5bd"}, model.ServingNone, []int{0, 0}},
		{"half is enough", []string{"1d", "3"}, model.ServingUp, []int{0, 3}},
		{"less than half is not", []string{"1d", "3", "2d"}, model.ServingPanic, []int{1, 3, 2}},
		{"numbers count, not weights", []string{"1d", "9", "1d"}, model.ServingPanic, []int{1, 9, 1}},
		{"who drains does not count", []string{"1d", "3", "0d", "0d"}, model.ServingUp, []int{0, 3, 0, 0}},
		{"backups are apart", []string{"1d", "3", "1d", "5b", "5bd"}, model.ServingPanic, []int{1, 3, 1, 0, 0}},
		{"backups are no panic", []string{"1d", "1d", "5b", "5bd", "5bd"}, model.ServingBackups, []int{0, 0, 5, 0, 0}},
		{"all down is no panic", []string{"1d", "3d", "2d"}, model.ServingNone, []int{0, 0, 0}},
		{"backups drain", []string{"2d", "0b"}, model.ServingNone, []int{0, 0}},
	} {
		s, down := teamOf(func(s *model.Service) { s.PanicThreshold = 50 }, row.backends...)
		wantDuty(t, row.name, DutyOf(s, s.Zone, down, nil), row.serving, row.weights)
	}
}

func TestZones(t *testing.T) {
	for _, row := range []struct {
		name     string
		zone     string
		backends []string
		serving  model.Serving
		weights  []int
	}{
		{"the balancer has none", "", []string{"1e", "1w", "1"}, model.ServingUp, []int{1, 1, 1}},
		{"nobody is near", "north", []string{"1e", "1w", "1"}, model.ServingUp, []int{1, 1, 1}},
		{"the own one serves", "east", []string{"1e", "1w", "3e", "1"}, model.ServingZone, []int{1, 0, 3, 0}},
		{"others being down is nothing", "east", []string{"1e", "1wd", "1wd", "1wd"}, model.ServingZone, []int{1, 0, 0, 0}},
		{"enough are up", "east", []string{"1ed", "1ed", "1e", "1e", "1e", "1w"}, model.ServingZone, []int{0, 0, 1, 1, 1, 0}},
		{"too few are up", "east", []string{"1ed", "1ed", "1e", "1e", "1w", "1"}, model.ServingUp, []int{0, 0, 1, 1, 1, 1}},
		{"too few are up anywhere", "east", []string{"1ed", "1ed", "1e", "1wd", "1w"}, model.ServingPanic, []int{1, 1, 1, 1, 1}},
		{"none is up", "east", []string{"1ed", "2w"}, model.ServingUp, []int{0, 2}},
		{"all drain", "east", []string{"0e", "2w"}, model.ServingUp, []int{0, 2}},
		{"who drains does not count", "east", []string{"0ed", "3e", "2w"}, model.ServingZone, []int{0, 3, 0}},
		{"a backup near is one", "east", []string{"1eb", "2w"}, model.ServingUp, []int{0, 2}},
		{"backups of all zones serve", "east", []string{"1ed", "2wd", "1eb", "1wb"}, model.ServingBackups, []int{0, 0, 1, 1}},
	} {
		s, down := teamOf(func(s *model.Service) {
			s.Zone, s.ZoneThreshold, s.PanicThreshold = row.zone, 60, 50
		}, row.backends...)
		wantDuty(t, row.name, DutyOf(s, s.Zone, down, nil), row.serving, row.weights)
	}
}

// TestDutiesHoldTogether checks what others rely on: nobody serves who counts as
// down, and somebody does if anybody can; who would serve if all were up does so
// when it is up, so its weight is one and the same.
func TestDutiesHoldTogether(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	letters := []string{"", "b", "d", "e", "w", "ed", "wd", "bd", "ebd"}
	for range 20000 {
		var texts []string
		for range 1 + rng.IntN(5) {
			texts = append(texts, fmt.Sprint(rng.IntN(3), letters[rng.IntN(len(letters))]))
		}
		s, down := teamOf(func(s *model.Service) {
			s.Zone, s.ZoneThreshold, s.PanicThreshold = []string{"", "east"}[rng.IntN(2)], 1+rng.IntN(100), rng.IntN(101)
		}, texts...)
		now, allUp := DutyOf(s, s.Zone, down, nil), DutyOf(s, s.Zone, nil, nil)
		can, does := false, false
		for i, w := range now.Weights {
			can = can || s.Backends[i].Weight > 0 && !down[i]
			does = does || w > 0
			switch {
			case w > 0 && now.Down[i], w > 0 && w != s.Backends[i].Weight, now.Down[i] && !down[i]:
				t.Fatalf("%v of %+v: backend %d has %+v", texts, s, i, now)
			case allUp.Weights[i] > 0 && !now.Down[i] && w == 0:
				t.Fatalf("%v of %+v: backend %d waits in %+v, but serves in %+v", texts, s, i, now, allUp)
			}
		}
		if can != does || can == (now.Serving == model.ServingNone) {
			t.Fatalf("%v of %+v: %+v", texts, s, now)
		}
	}
}

func TestPanicThreshold(t *testing.T) {
	for _, row := range []struct {
		threshold int
		serving   model.Serving
	}{
		{0, model.ServingUp}, {1, model.ServingUp}, {33, model.ServingUp}, {34, model.ServingPanic}, {100, model.ServingPanic},
	} {
		s, down := teamOf(func(s *model.Service) { s.PanicThreshold = row.threshold }, "1d", "1d", "1")
		if d := DutyOf(s, s.Zone, down, nil); d.Serving != row.serving {
			t.Errorf("threshold %d, a third is up: serving %s, want %s", row.threshold, d.Serving, row.serving)
		}
	}
}

// TestNobodyWhoServesInAPanicCountsAsDown is what keeps their flows from a reset.
func TestNobodyWhoServesInAPanicCountsAsDown(t *testing.T) {
	s, down := teamOf(func(s *model.Service) { s.PanicThreshold = 50 }, "1d", "1", "1d", "1d", "0d", "1bd")
	if diff := cmp.Diff([]bool{false, false, false, false, true, true}, DutyOf(s, s.Zone, down, nil).Down); diff != "" {
		t.Errorf("down (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]bool{true, false, true, true, true, true}, down); diff != "" {
		t.Errorf("what was given (-want +got):\n%s", diff)
	}
}

func TestDutyCountsShares(t *testing.T) {
	s, down := teamOf(nil, "1", "2", "1b")
	if diff := cmp.Diff([]int{10, 2 * Whole, 0}, DutyOf(s, s.Zone, down, []int{10, Whole, 3}).Weights); diff != "" {
		t.Errorf("weights (-want +got):\n%s", diff)
	}
}
