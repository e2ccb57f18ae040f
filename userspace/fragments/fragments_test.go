package fragments

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// An event is what a fake datapath hands over: a frame of a datagram, or none.
type event struct {
	of    string
	frame string
}

// A fake is a datapath whose datagrams are called by names.
type fake struct {
	events chan event
	closed chan struct{}
	once   sync.Once
	first  sync.Map // by datagram
	back   []string
	broken bool
}

func (f *fake) Next(deadline time.Time) (string, uint32, []byte, error) {
	select {
	case <-f.closed:
		return "", 0, nil, os.ErrClosed
	case e := <-f.events:
		return e.of, 7, []byte(e.frame), nil
	case <-time.After(time.Until(deadline)):
		return "", 0, nil, os.ErrDeadlineExceeded
	}
}

func (f *fake) HasFirst(of string) (bool, error) {
	_, has := f.first.Load(of)
	return has, nil
}

func (f *fake) GiveBack(ifindex uint32, frame []byte) error {
	if f.broken || ifindex != 7 {
		return errors.New("broken")
	}
	f.back = append(f.back, string(frame))
	return nil
}

func (f *fake) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// counts are those of Stats.
type counts struct {
	Held, Bytes                                int64
	Taken, GivenBack, TimedOut, NoRoom, Failed uint64
}

func countsOf(s *Stats) counts {
	return counts{
		s.Held.Load(), s.Bytes.Load(), s.Taken.Load(), s.GivenBack.Load(),
		s.TimedOut.Load(), s.NoRoom.Load(), s.Failed.Load(),
	}
}

// keep runs a keeper while do does something to its datapath.
func keep(t *testing.T, do func(*fake, *Stats)) (back []string, end counts) {
	t.Helper()
	f, s := &fake{}, &Stats{}
	synctest.Test(t, func(t *testing.T) {
		f.events, f.closed = make(chan event), make(chan struct{})
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- New(f, s, slog.New(slog.DiscardHandler)).Run(ctx) }()
		do(f, s)
		synctest.Wait()
		end()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
	return f.back, countsOf(s)
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestHeldUntilTheFirstComes(t *testing.T) {
	back, end := keep(t, func(f *fake, s *Stats) {
		for _, e := range []event{{"a", "a2"}, {"b", "b2"}, {"a", "a3"}, {"a", "a4"}} {
			f.events <- e
		}
		synctest.Wait()
		want(t, "while they are held", countsOf(s), counts{Held: 4, Bytes: 4 * (2 + overhead), Taken: 4})
		f.events <- event{of: "nobody"}
		f.events <- event{of: "a"}
		synctest.Wait()
		f.events <- event{of: "b"}
	})
	want(t, "what came back", back, []string{"a2", "a3", "a4", "b2"})
	want(t, "counts", end, counts{Taken: 4, GivenBack: 4})
}

func TestFirstCameMeanwhile(t *testing.T) {
	back, end := keep(t, func(f *fake, _ *Stats) {
		f.events <- event{"a", "a2"}
		synctest.Wait()
		f.first.Store("a", nil)
		f.events <- event{"a", "a3"} // with which a2 goes too
	})
	want(t, "what came back", back, []string{"a2", "a3"})
	want(t, "counts", end, counts{Taken: 2, GivenBack: 2})
}

func TestNewsIsLost(t *testing.T) {
	back, end := keep(t, func(f *fake, _ *Stats) {
		f.events <- event{"a", "a2"}
		synctest.Wait()
		f.first.Store("a", nil)
		time.Sleep(sweepEvery)
	})
	want(t, "what came back", back, []string{"a2"})
	want(t, "counts", end, counts{Taken: 1, GivenBack: 1})
}

func TestTooOld(t *testing.T) {
	_, end := keep(t, func(f *fake, s *Stats) {
		f.events <- event{"a", "a2"}
		time.Sleep(sweepEvery)
		f.events <- event{"b", "b2"}
		time.Sleep(MaxAge - 1)
		synctest.Wait()
		want(t, "after a time", countsOf(s), counts{Held: 1, Bytes: 2 + overhead, Taken: 2, TimedOut: 1})
		f.events <- event{of: "a"}
		time.Sleep(sweepEvery)
	})
	want(t, "counts", end, counts{Taken: 2, TimedOut: 2})
}

func TestNoRoom(t *testing.T) {
	const n = MaxBytes/(1000+overhead) + 3
	frame := string(slices.Repeat([]byte{1}, 1000))
	back, end := keep(t, func(f *fake, _ *Stats) {
		for i := range n {
			f.events <- event{fmt.Sprint(i), frame}
		}
		f.events <- event{of: "2"}
		f.events <- event{of: "3"}
	})
	want(t, "how many came back", len(back), 1)
	want(t, "counts", end, counts{Taken: n, NoRoom: 3, GivenBack: 1, Failed: n - 4})
}

func TestKernelDoesNotTakeThemBack(t *testing.T) {
	_, end := keep(t, func(f *fake, _ *Stats) {
		f.broken = true
		f.events <- event{"a", "a2"}
		f.events <- event{"a", "a3"}
		f.events <- event{of: "a"}
	})
	want(t, "counts", end, counts{Taken: 2, Failed: 2})
}
