package httpproxy

import (
	"context"
	"sync"
	"testing"
)

// TestHeadcountCountsUpFromNothing has requests begin and end, one after the other, while
// two wait: a sync.WaitGroup panics then.
func TestHeadcountCountsUpFromNothing(t *testing.T) {
	var running headcount
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20_000 {
				running.add()
				running.done()
			}
		})
	}
	for range 2 {
		all.Go(func() {
			for range 20_000 {
				running.wait(t.Context())
			}
		})
	}
	all.Wait()
}

func TestHeadcountWaits(t *testing.T) {
	var running headcount
	running.wait(t.Context()) // for nothing
	running.add()
	running.add()
	done, stop := context.WithCancel(t.Context())
	stop()
	running.wait(done)
	ended := make(chan struct{}, 2)
	for range 2 {
		go func() {
			running.wait(t.Context())
			ended <- struct{}{}
		}()
	}
	running.done()
	select {
	case <-ended:
		t.Error("waited for one of two")
	default:
	}
	running.done()
	<-ended
	<-ended
}
