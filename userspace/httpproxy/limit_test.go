package httpproxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fairlead/testenv"
	"fairlead/userspace/model"
)

// A gate is a backend whose requests wait until they are let go.
type gate struct {
	arrived, goOn chan struct{}
	addr          string
}

func gated(t *testing.T) *gate {
	g := &gate{arrived: make(chan struct{}, 100), goOn: make(chan struct{}, 100)}
	g.addr = handle(t, func(w http.ResponseWriter, r *http.Request) {
		g.arrived <- struct{}{}
		select {
		case <-g.goOn:
			fmt.Fprint(w, "ok")
		case <-r.Context().Done():
		}
	})
	return g
}

// start sends a request and returns where its status will be.
func (f *front) start() <-chan int {
	done := make(chan int, 1)
	go func() {
		res, err := http.Get("http://" + f.addr)
		if err != nil {
			done <- 0
			return
		}
		res.Body.Close()
		done <- res.StatusCode
	}()
	return done
}

func await[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Error("nothing comes")
	}
	return v
}

func TestWithoutABackendTheAnswerIs503AtOnce(t *testing.T) {
	p := poolOf(names(t, "a"))
	p.Queue = model.Queue{Size: 10, Timeout: time.Hour}
	f := one(t, p)
	update(f.pools["main"], p, true)
	if status, _ := f.get("/"); status != 503 {
		t.Errorf("status %d with all down", status)
	}
	update(f.pools["main"], p, false)
	if status, _ := f.get("/"); status != 200 {
		t.Errorf("status %d when it is up again", status)
	}
	update(f.pools["main"], poolOf())
	if status, _ := f.get("/"); status != 503 || f.Stats().NoBackend != 2 {
		t.Errorf("status %d with an empty pool; stats %+v", status, f.Stats())
	}
}

func TestABackendHasOnlySoManyRequests(t *testing.T) {
	a, b := gated(t), gated(t)
	p := poolOf(a.addr, b.addr)
	p.MaxRequests = 2
	f := one(t, p)
	var all []<-chan int
	for range 4 {
		all = append(all, f.start())
	}
	for range 2 {
		await(t, a.arrived)
		await(t, b.arrived)
	}
	if status, _ := f.get("/"); status != 503 {
		t.Errorf("status %d of one more", status)
	}
	for range 2 {
		a.goOn <- struct{}{}
		b.goOn <- struct{}{}
	}
	for _, status := range all {
		if s := await(t, status); s != 200 {
			t.Errorf("status %d", s)
		}
	}
	a.goOn <- struct{}{}
	b.goOn <- struct{}{}
	if status, _ := f.get("/"); status != 200 {
		t.Errorf("status %d when there is room again", status)
	}
}

func TestRequestsWaitInTheQueue(t *testing.T) {
	g := gated(t)
	p := poolOf(g.addr)
	p.MaxRequests, p.Queue = 1, model.Queue{Size: 2, Timeout: time.Hour}
	f := one(t, p)
	q := &f.pools["main"].queue
	length := func() int {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.waiting.Len()
	}
	first := f.start()
	await(t, g.arrived)
	second, third := f.start(), f.start()
	eventually(t, "two wait", func() bool { return length() == 2 })
	if status, _ := f.get("/"); status != 503 {
		t.Errorf("status %d of who finds the queue full", status)
	}
	for range 3 {
		g.goOn <- struct{}{}
	}
	for _, status := range []<-chan int{first, second, third} {
		if s := await(t, status); s != 200 {
			t.Errorf("status %d", s)
		}
	}
	if length() != 0 {
		t.Error("the queue is not empty")
	}
}

func TestWhoWaitsTooLongGets503(t *testing.T) {
	g := gated(t)
	p := poolOf(g.addr)
	p.MaxRequests, p.Queue = 1, model.Queue{Size: 2, Timeout: 20 * time.Millisecond}
	f := one(t, p)
	first := f.start()
	await(t, g.arrived)
	if status, _ := f.get("/"); status != 503 {
		t.Errorf("status %d", status)
	}
	g.goOn <- struct{}{}
	if s := await(t, first); s != 200 {
		t.Errorf("status %d of the first", s)
	}
}

// A hurdle is a chooser of the first backend that does something before it says that
// it cannot.
type hurdle func(skip func(uint32) bool) bool

func (h hurdle) Choose(_, _ netip.AddrPort, skip func(uint32) bool) (uint32, func(), bool) {
	return 0, func() {}, h(skip)
}
func (hurdle) Keep(uint32) (func(), bool) { return nil, false }
func (hurdle) Weight(uint32) int          { return 1 }

// TestAPlaceThatWasTakenAndIsFreeAgainIsNotMissed: who is woken finds that another
// request was quicker, which ends before the queue is joined again.
func TestAPlaceThatWasTakenAndIsFreeAgainIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conf := poolOf("127.0.0.1:1")
		conf.MaxRequests, conf.Queue = 1, model.Queue{Size: 1, Timeout: time.Hour}
		p, calls := NewPool(nil), 0
		var b *backend
		p.Update(conf, hurdle(func(skip func(uint32) bool) bool {
			if calls++; calls != 3 {
				return !skip(0)
			}
			b.active.Add(1)
			defer func() {
				b.active.Add(-1)
				p.queue.wake()
			}()
			return !skip(0)
		}))
		b = p.set.Load().backends[0]
		b.active.Add(1)
		took := make(chan error)
		go func() {
			_, err := p.take(t.Context(), &exchange{}, nil)
			took <- err
		}()
		synctest.Wait()
		b.active.Add(-1)
		p.queue.wake()
		if err := <-took; err != nil || calls < 4 {
			t.Errorf("error %v after %d calls", err, calls)
		}
	})
}

func TestAQueueUnderLoadLosesNobody(t *testing.T) {
	backend := names(t, "ok")
	p := poolOf(backend)
	p.MaxRequests, p.Queue = 2, model.Queue{Size: 1000, Timeout: patience}
	f := one(t, p)
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() {
			for range 20 {
				if s := await(t, f.start()); s != 200 {
					t.Errorf("status %d", s)
				}
			}
		})
	}
	running.Wait()
	eventually(t, "no request is left", func() bool { return f.pools["main"].set.Load().backends[0].active.Load() == 0 })
}

func TestResponseTimesAreThoseOfRequests(t *testing.T) {
	const slow = 50 * time.Millisecond
	late := handle(t, func(http.ResponseWriter, *http.Request) { time.Sleep(slow) }) // the time is what is measured
	f := one(t, poolOf(names(t, "quick"), late, testenv.FreeAddress(t)))
	for range 6 {
		f.get("/")
	}
	got := f.pools["main"].Responses()
	if got[0] <= 0 || got[1] < slow || got[0] >= got[1] || got[2] != 0 {
		t.Errorf("times %v", got)
	}
}
