package leak_test

import (
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/leak"
)

// referred is what somebody refers to yet.
var referred atomic.Pointer[[]any]

// refer has things referred to until referred is set to something else.
func refer(t *testing.T, err error, things ...any) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	referred.Store(&things)
}

// dropWhileLooked drops what is referred to as soon as the garbage collector is off, and
// makes garbage. It returns false if that has not come before the end.
func dropWhileLooked(ended <-chan bool) bool {
	percent := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	for ; percent[0].Value.Kind() != metrics.KindUint64 || percent[0].Value.Uint64() != math.MaxUint64; metrics.Read(percent) {
		select {
		case <-ended:
			referred.Store(nil)
			return false
		case <-time.After(time.Millisecond):
		}
	}
	for range 1000 {
		referred.Store(&[]any{make([]byte, 64<<10)})
	}
	referred.Store(nil)
	return true
}

func TestWhatNobodyRefersToIsFound(t *testing.T) {
	for _, row := range []struct {
		name string
		open func(t *testing.T)
		want []string
	}{
		{"a file", func(t *testing.T) { refer(t, nil, newFile(t, "forgotten")) }, []string{"/forgotten"}},
		{"a pipe", func(t *testing.T) { r, w, err := os.Pipe(); refer(t, err, r, w) }, []string{" pipe:", " pipe:"}},
		{"a listener", func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			refer(t, err, l)
		}, []string{"from 127.0.0.1:"}},
		{"a socket", func(t *testing.T) {
			c, err := net.ListenPacket("unixgram", filepath.Join(t.TempDir(), "forgotten"))
			refer(t, err, c)
		}, []string{"/forgotten"}},
		{"an eventfd", func(t *testing.T) {
			fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
			refer(t, err, os.NewFile(uintptr(fd), "eventfd"))
		}, []string{"anon_inode:[eventfd]"}},
		{"a map", func(t *testing.T) { refer(t, nil, newMap(t)) }, []string{"anon_inode:bpf-map map_id "}},
	} {
		t.Run(row.name, func(t *testing.T) {
			before, err := leak.Take(0)
			if err != nil {
				t.Fatal(err)
			}
			ended, dropped := make(chan bool), make(chan bool, 1)
			go func() { dropped <- dropWhileLooked(ended) }()
			guilty := alone(t)("TestGuilty")
			row.open(t)
			guilty.end()
			close(ended)
			if !<-dropped {
				t.Error("the garbage collector runs while leaks are looked for")
			}
			if len(guilty.faults) != len(row.want) {
				t.Fatalf("faults %q, want %q", guilty.faults, row.want)
			}
			for i, want := range row.want {
				if !strings.Contains(guilty.faults[i], want) {
					t.Errorf("fault %q, want %q", guilty.faults[i], want)
				}
			}
			testenv.AwaitNil(t, "the collector to close it", func() error { runtime.GC(); return before.Await() })
		})
	}
}
