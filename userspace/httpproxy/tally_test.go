package httpproxy

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatBackendsDoIsCounted(t *testing.T) {
	good := take(t, func(string, net.Conn) string { return "HTTP/1.1 204 No Content\r\n\r\n" })
	bad := take(t, func(string, net.Conn) string { return "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n" })
	gone := take(t, func(string, net.Conn) string { return "" })
	conf := poolOf(bad.Addr().String(), gone.Addr().String(), good.Addr().String())
	conf.Retry.Statuses = []int{503}
	f := one(t, conf)
	if status, _ := f.get("/"); status != 204 {
		t.Fatalf("status %d", status)
	}
	var got []BackendStats
	eventually(t, "no request runs", func() bool {
		got = f.pools["main"].Stats()
		return got[0].Running+got[1].Running+got[2].Running == 0
	})
	for i := range got {
		if took := got[i].Times.Sum; took < 0 || took > time.Minute || (took == 0) != (i == 1) {
			t.Errorf("backend %d took %v", i, took)
		}
		n := uint64(0)
		for _, c := range got[i].Times.Counts {
			n += c
		}
		got[i].Times = Times{Counts: [len(Bounds) + 1]uint64{n}}
	}
	counts := func(n uint64) Times { return Times{Counts: [len(Bounds) + 1]uint64{n}} }
	want := []BackendStats{
		{Attempts: 1, Answers: [4]uint64{0, 0, 0, 1}, Failures: 1, Times: counts(1)},
		{Attempts: 1, Failures: 1, Times: counts(0)},
		{Attempts: 1, Answers: [4]uint64{1}, Times: counts(1)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestBuckets(t *testing.T) {
	var all times
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 10 * time.Second, 11 * time.Second} {
		all.add(d)
	}
	got := all.load()
	want := Times{Sum: 21*time.Second + 2*time.Millisecond + 1}
	want.Counts[0], want.Counts[1], want.Counts[len(Bounds)-1], want.Counts[len(Bounds)] = 2, 1, 1, 1
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestAnAnswerWithoutAStatusEndsTheAttempt: no such one can be passed on.
func TestAnAnswerWithoutAStatusEndsTheAttempt(t *testing.T) {
	f := one(t, poolOf(take(t, func(string, net.Conn) string { return "HTTP/1.1 042 What\r\nContent-Length: 2\r\n\r\nok" }).addr()))
	if status, _ := f.get("/"); status != http.StatusBadGateway {
		t.Errorf("status %d", status)
	}
	if s := f.pools["main"].Stats()[0]; s.Running != 0 || s.Failures != 1 {
		t.Errorf("stats %+v", s)
	}
}
