package httpcache

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"fairlead/userspace/model"
)

// heap returns how much memory is in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryIsBounded asks for more than there is room for, and wants no more in
// memory than twice that.
func TestMemoryIsBounded(t *testing.T) {
	urls := 10_000
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		urls = 100_000
	}
	plain := func(int) []string { return []string{minute} }
	for _, row := range []struct {
		name, path string // with %d for the number of the request
		variants   int    // of a URL
		body       int
		headers    func(i int) []string
	}{
		{"small answers", "/%d", 1, 0, plain},
		{"long URLs", "/%d" + strings.Repeat("x", 500), 1, 10, plain},
		{"variants", "/%d", 30, 10, func(int) []string { return []string{minute, "Vary: X"} }},
		{"bodies", "/%d", 1, 5000, plain},
		{"headers", "/%d", 1, 10, func(i int) []string {
			all := []string{minute}
			for j := range 10 {
				all = append(all, fmt.Sprintf("X-%d: %d", j, i))
			}
			return all
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			conf, i, body := model.Cache{Size: 4 << 20, MaxBody: 1 << 20}, 0, strings.Repeat("x", row.body)
			b := layWith(t, conf, func(w http.ResponseWriter, r *http.Request) { say(200, body, row.headers(i)...)(w, r) })
			before := heap()
			for ; i < urls; i++ {
				b.do("GET "+fmt.Sprintf(row.path, i/row.variants), fmt.Sprint("X: ", i))
				b.seen = b.seen[:0]
				if i%2500 < 2499 {
					continue
				}
				if most := heap() - before; most > 2*conf.Size {
					t.Errorf("%d bytes after %d requests", most, i+1)
				}
			}
			if s := b.Stats(); s.Bytes < uint64(conf.Size/2) || s.Misses != uint64(urls) {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// TestWhatIsBeingStoredIsBounded: clients may take what they ask for slowly.
func TestWhatIsBeingStoredIsBounded(t *testing.T) {
	const length = 1 << 20
	for name, announced := range map[string]string{"known": "Content-Length: 1048576", "unknown": "X: x"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				goOn := make(chan struct{})
				b := layWith(t, model.Cache{Size: 8*length + 8*overhead, MaxBody: length}, func(w http.ResponseWriter, _ *http.Request) {
					addAll(w.Header(), []string{minute, announced})
					_, _ = w.Write(make([]byte, length-1))
					<-goOn
					_, _ = w.Write([]byte{0})
				})
				var running sync.WaitGroup
				for i := range 20 {
					running.Go(func() {
						if n := b.do(fmt.Sprint("GET /", i)).Body.Len(); n != length {
							t.Errorf("%d bytes", n)
						}
					})
				}
				synctest.Wait()
				if n := b.filling.Load(); n > 8*length+8*overhead || n < 7*length {
					t.Errorf("%d bytes are being stored", n)
				}
				close(goOn)
				running.Wait()
				if n, s := b.filling.Load(), b.Stats(); n != 0 || s.Pages == 0 || s.Pages > 8 {
					t.Errorf("%d bytes are being stored, stats %+v", n, s)
				}
			})
		})
	}
}
