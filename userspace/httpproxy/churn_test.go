package httpproxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A mortal is a server at one address that dies and comes back. It counts the
// requests with a number that reached it.
type mortal struct {
	t      *testing.T
	addr   string
	server *http.Server
	ended  chan struct{}
	posts  *sync.Map // number to *atomic.Int32
}

func (m *mortal) start() {
	l, err := net.Listen("tcp4", m.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	m.addr, m.ended = l.Addr().String(), make(chan struct{})
	m.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := r.Header.Get("X-Number"); n != "" {
			count, _ := m.posts.LoadOrStore(n, new(atomic.Int32))
			count.(*atomic.Int32).Add(1)
		}
		_, _ = io.Copy(w, r.Body)
	})}
	go func() {
		defer close(m.ended)
		_ = m.server.Serve(l)
	}()
}

func (m *mortal) kill() {
	m.server.Close()
	<-m.ended
}

// TestBackendsThatDie has clients see none of it, and no POST arrive twice.
func TestBackendsThatDie(t *testing.T) {
	posts := &sync.Map{}
	backends, p := make([]*mortal, 3), poolOf()
	for i := range backends {
		backends[i] = &mortal{t: t, addr: "127.0.0.1:0", posts: posts}
		backends[i].start()
		defer backends[i].kill()
		p.Backends = append(p.Backends, poolOf(backends[i].addr).Backends...)
	}
	rounds := 5
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		rounds = 60
	}
	f := one(t, p)
	var over atomic.Bool
	var clients sync.WaitGroup
	var gets, numbers atomic.Int64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}, Timeout: patience}
	defer client.CloseIdleConnections()
	for i := range 6 {
		clients.Go(func() {
			for !over.Load() {
				if i%2 == 0 {
					gets.Add(1)
					if err := expectOK(client.Get("http://" + f.addr)); err != nil {
						t.Error("GET:", err)
					}
					continue
				}
				_ = postNumbered(client, f.addr, numbers.Add(1)) // may fail: who knows whether it arrived
			}
		})
	}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for i := range rounds {
		before := gets.Load()
		backends[i%3].kill()
		eventually(t, "requests go on", func() bool { return gets.Load() > before+20 })
		backends[i%3].start()
		eventually(t, "requests go on", func() bool { return gets.Load() > before+100 })
		if rounds > 5 {
			<-second.C // the rhythm that is promised
		}
	}
	over.Store(true)
	clients.Wait()
	arrived := 0
	posts.Range(func(n, count any) bool {
		arrived++
		if c := count.(*atomic.Int32).Load(); c != 1 {
			t.Errorf("POST %v arrived %d times", n, c)
		}
		return true
	})
	if retries := f.Stats().Retries; retries == 0 || arrived < rounds {
		t.Errorf("%d requests were sent again and %d of %d POSTs arrived: that shows nothing", retries, arrived, numbers.Load())
	}
}

// postNumbered sends a POST with a number, by which it is counted.
func postNumbered(client *http.Client, addr string, number int64) error {
	r, err := http.NewRequest("POST", "http://"+addr, strings.NewReader("body"))
	if err != nil {
		return err
	}
	r.Header.Set("X-Number", fmt.Sprint(number))
	return expectOK(client.Do(r))
}

func expectOK(res *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != 200 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}
