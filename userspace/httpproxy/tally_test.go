package httpproxy

import (
	"net"
	"net/http"
	"slices"
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
	var answers []uint64
	for i := range got {
		if took := got[i].Latency.Totals().Sum; took < 0 || took > time.Minute || (took == 0) != (i == 1) {
			t.Errorf("backend %d took %v", i, took)
		}
		answers = append(answers, got[i].Latency.Recent(time.Now()).Count)
		got[i].Latency = nil
	}
	if !slices.Equal(answers, []uint64{1, 0, 1}) {
		t.Errorf("answers that took some time: %d of each", answers)
	}
	want := []BackendStats{
		{Attempts: 1, Answers: map[int]uint64{503: 1}, Failures: 1},
		{Attempts: 1, Answers: map[int]uint64{}, Failures: 1},
		{Attempts: 1, Answers: map[int]uint64{204: 1}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
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
