package top

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fairlead/cmd/internal/command/status"
	"fairlead/testenv/golden"
	"fairlead/userspace/view"
)

// drawn returns a sample with rates, of two seconds.
func drawn() *Sample {
	at := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	read := func(second uint64) *reading {
		v := countedAt(second, at.Add(time.Duration(second)*time.Second))
		return newReading(&status.Status{Kernel: v, Health: "agent pid 7, alive", Services: []view.Service{{
			Listen: "203.0.113.10:80-81", Protocol: "tcp", Rung: view.RungGeneric, Reason: "eth0 is\nslow",
			Backends: []view.Backend{
				{Address: "10.2.1.2:8080", Weight: 1, Serves: true, Up: true, Latency: &view.Latency{Count: 9, Median: 0.0004, P95: 0.0123, P99: 1.96}, Suspect: &view.Suspicion{Since: at, Unanswered: 3, Refused: 2}},
				{Address: "10.2.1.3:8080", LastError: "dial tcp 10.2.1.3:8080: connect: connection refused"},
			},
		}}}, nil, at)
	}
	return read(6).since(read(4))
}

func TestScreens(t *testing.T) {
	gone := newReading(nil, fmt.Errorf("open x: gone"), time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)).since(nil)
	for _, row := range []struct {
		golden        string
		sample        *Sample
		width, height int
		first         int
	}{
		{"80x24.txt", drawn(), 80, 24, 0},
		{"140x12.txt", drawn(), 140, 12, 0},
		{"40x8.txt", drawn(), 40, 8, 1},
		{"20x7-end.txt", drawn(), 20, 7, 99},
		{"gone.txt", gone, 60, 8, 0},
	} {
		t.Run(row.golden, func(t *testing.T) {
			s := &screen{sample: row.sample, order: orders[0], interval: time.Second, width: row.width, height: row.height, first: row.first}
			lines := s.draw()
			for _, l := range lines {
				if utf8.RuneCountInString(l) > row.width {
					t.Errorf("%q is wider than %d", l, row.width)
				}
			}
			if len(lines) != row.height {
				t.Errorf("%d lines, want %d", len(lines), row.height)
			}
			golden.Check(t, row.golden, strings.Join(lines, "\n")+"\n")
		})
	}
}

func TestNoScreenIsTooSmall(t *testing.T) {
	for width := range 100 {
		for height := range 12 {
			s := &screen{sample: drawn(), order: orders[0], width: width, height: height}
			if lines := s.draw(); len(lines) > height {
				t.Fatalf("%d lines on %d", len(lines), height)
			}
		}
	}
}

func TestNumbersAreShort(t *testing.T) {
	for _, row := range []struct {
		n    float64
		want string
	}{
		{0, "0"}, {0.04, "0"}, {0.5, "0.5"}, {7, "7"}, {9.94, "9.9"}, {9.96, "10"}, {999.4, "999"}, {9999.4, "9999"}, {9999.6, "10k"}, {12_345, "12.3k"},
		{99_940, "99.9k"}, {99_960, "100k"}, {999_400, "999k"}, {999_600, "1M"}, {2.5e9, "2.5G"}, {3e12, "3T"}, {3e15, "3000T"},
	} {
		if got := human(row.n); got != row.want {
			t.Errorf("%v is %q, want %q", row.n, got, row.want)
		}
	}
}

func TestTimesAreShort(t *testing.T) {
	for _, row := range []struct {
		seconds float64
		want    string
	}{
		{0, "0µs"}, {4e-7, "0µs"}, {0.0000426, "43µs"}, {0.0009994, "999µs"}, {0.0009996, "1ms"}, {0.00154, "1.5ms"}, {0.0123, "12ms"}, {0.9994, "999ms"}, {0.9996, "1s"}, {2.5, "2.5s"}, {75, "75s"},
	} {
		if got := humanTime(row.seconds); got != row.want {
			t.Errorf("%v is %q, want %q", row.seconds, got, row.want)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, row := range []struct {
		typed string
		end   bool
		order string
		first int
	}{
		{"q", true, "name", 3},
		{"\x03", true, "name", 3},
		{"xbq", true, "bytes", 0},
		{"p", false, "packets", 0},
		{"w", false, "new", 0},
		{"j\x1b[B\x1bOB", false, "name", 6},
		{"k\x1b[A\x1bOAkkk", false, "name", 0},
		{" \x1b[6~", false, "name", 3 + 2*5},
		{"\x1b[5~", false, "name", 0},
		{"\x1b", false, "name", 3},
	} {
		top, s := &top{}, &screen{height: 10, first: 3}
		end := top.press(s, row.typed)
		if end != row.end || orders[top.order].name != row.order || s.first != row.first {
			t.Errorf("%q: end %t, by %s, from line %d; want %t, %s, %d", row.typed, end, orders[top.order].name, s.first, row.end, row.order, row.first)
		}
	}
}
