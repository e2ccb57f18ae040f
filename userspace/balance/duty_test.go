package balance

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

// teamOf returns a service with the backends that a text has, and which of them
// are down. Each is a weight and letters: b is a backup, d is down.
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
			}
		}
		s.Backends, down = append(s.Backends, b), append(down, isDown)
	}
	if edit != nil {
		edit(s)
	}
	return s, down
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
		{"a backup waits for the last one", []string{"2d", "1d", "3", "1b"}, model.ServingUp, []int{0, 0, 3, 0}},
		{"a backup serves", []string{"2d", "5b"}, model.ServingBackups, []int{0, 5}},
		{"backups that are up serve", []string{"2d", "5b", "1bd", "4b"}, model.ServingBackups, []int{0, 5, 0, 4}},
		{"a backup serves while all others drain", []string{"0", "0d", "5b"}, model.ServingBackups, []int{0, 0, 5}},
		{"backups are down", []string{"2d", "5bd"}, model.ServingNone, []int{0, 0}},
		{"backups drain", []string{"2d", "0b"}, model.ServingNone, []int{0, 0}},
	} {
		s, down := teamOf(nil, row.backends...)
		d := DutyOf(s, down, nil)
		if d.Serving != row.serving {
			t.Errorf("%s: serving %s, want %s", row.name, d.Serving, row.serving)
		}
		if diff := cmp.Diff(row.weights, d.Weights); diff != "" {
			t.Errorf("%s: weights (-want +got):\n%s", row.name, diff)
		}
	}
}

func TestDutyCountsShares(t *testing.T) {
	s, down := teamOf(nil, "1", "2", "1b")
	if diff := cmp.Diff([]int{10, 2 * Whole, 0}, DutyOf(s, down, []int{10, Whole, 3}).Weights); diff != "" {
		t.Errorf("weights (-want +got):\n%s", diff)
	}
}
