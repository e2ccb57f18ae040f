package host

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestDumpsThatAreInterruptedAreMadeAgain(t *testing.T) {
	errBroken := errors.New("broken")
	for _, row := range []struct {
		name        string
		interrupted int // times
		then        error
		want        int // lists made
	}{
		{"at once", 0, nil, 1},
		{"once more", 1, nil, 2},
		{"never whole", 100, nil, 5},
		{"broken", 1, errBroken, 2},
	} {
		made := 0
		_, err := dump(func() ([]int, error) {
			if made++; made <= row.interrupted {
				return []int{1}, netlink.ErrDumpInterrupted
			}
			return []int{1, 2}, row.then
		})
		if made != row.want || !errors.Is(err, row.then) {
			t.Errorf("%s: %d lists, %v, want %d, %v", row.name, made, err, row.want, row.then)
		}
	}
}
