package health

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"fairlead/userspace/model"
)

func TestWordsOfAgents(t *testing.T) {
	out := func(w Word) Word { w.Down = true; return w }
	for _, row := range []struct {
		name   string
		before Word
		line   string
		want   Word
		ok     bool
	}{
		{"up", out(free), "up", free, true},
		{"down, and why", free, "down # disk is full, 50%", out(free), true},
		{"fail", free, "fail", out(free), true},
		{"stopped", free, "stopped", out(free), true},
		{"a weight", free, "75%", Word{Weight: 75}, true},
		{"a weight leaves the rest", out(free), "10%", Word{Down: true, Weight: 10}, true},
		{"more than all", free, "200%", free, true},
		{"drain", free, "drain", Word{Drain: true, Weight: 100}, true},
		{"up does not end a drain", Word{Drain: true, Weight: 100}, "up", Word{Drain: true, Weight: 100}, true},
		{"ready does", Word{Drain: true, Maint: true, Weight: 50}, "ready", Word{Weight: 50}, true},
		{"several words", Word{Down: true, Maint: true, Weight: 0}, "ready up,100%\r", free, true},
		{"maint", free, "maint", Word{Maint: true, Weight: 100}, true},
		{"what is not known beside what is", free, "maxconn:10 50%", Word{Weight: 50}, true},
		{"nothing that is known", free, "hello", free, false},
		{"no number", free, "-5%", free, false},
		{"nothing", free, "", free, false},
	} {
		if got, ok := row.before.hear(row.line); got != row.want || ok != row.ok {
			t.Errorf("%s: %+v, %v, want %+v, %v", row.name, got, ok, row.want, row.ok)
		}
	}
}

func TestAgentsAreHeard(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	words, asked := "50%\n", ""
	say := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		words = text
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 3)
			_, _ = io.ReadFull(c, b) // what it lacks is seen below
			mu.Lock()
			asked = string(b)
			fmt.Fprint(c, words)
			mu.Unlock()
			c.Close()
		}
	})
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	check := model.Check{Type: model.CheckTCP, Interval: time.Hour, Agent: model.AgentCheck{Port: port, Interval: 10 * time.Millisecond, Timeout: 10 * time.Second, Send: "hi\n"}}
	k := Target{Address: netip.MustParseAddrPort(l.Addr().String()), Check: check}
	heard := make(chan Word, 100)
	c := New(slog.New(slog.DiscardHandler), func(_ Target, s Status) { heard <- s.Word })
	c.Set([]Target{k}, nil)
	ctx, stop := context.WithCancel(t.Context())
	running.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() {
		stop()
		l.Close()
		running.Wait()
	})
	await := func(want Word) {
		t.Helper()
		for end := time.After(20 * time.Second); ; {
			select {
			case w := <-heard:
				if w == want {
					return
				}
			case <-end:
				s, _ := c.Status(k)
				t.Fatalf("word %+v, want %+v", s.Word, want)
			}
		}
	}
	await(Word{Weight: 50})
	say("down\n")
	await(Word{Down: true, Weight: 50})
	say("") // which says nothing
	say("nonsense\n")
	say("up drain 20%") // without an end of line
	await(Word{Drain: true, Weight: 20})
	mu.Lock()
	defer mu.Unlock()
	if asked != "hi\n" {
		t.Errorf("asked with %q", asked)
	}
}
