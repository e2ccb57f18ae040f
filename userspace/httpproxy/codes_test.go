package httpproxy

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStatusesAreCountedOneByOne(t *testing.T) {
	var c statusCounts
	var all sync.WaitGroup
	for range 4 { // who come first together, too
		all.Go(func() {
			for range 100 {
				for _, status := range []int{99, 100, 101, 199, 200, 404, 499, 500, 599, 600, 999, -1} {
					c.add(status)
				}
			}
		})
	}
	all.Wait()
	want := map[int]uint64{0: 1600, 100: 400, 101: 400, 199: 400, 200: 400, 404: 400, 499: 400, 500: 400, 599: 400}
	if diff := cmp.Diff(want, c.read()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if n := testing.AllocsPerRun(100, func() { c.add(204) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
