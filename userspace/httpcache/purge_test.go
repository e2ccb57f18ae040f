package httpcache

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestPurge(t *testing.T) {
	b := lay(t, say(200, "x", minute))
	b.do("GET /a?b")
	if b.Purge("example.com/a") || !b.Purge("example.com/a?b") || b.Purge("example.com/a?b") {
		t.Error("not once")
	}
	b.pages.CleanUp()
	if s := b.Stats(); s.Pages != 0 || s.Bytes != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestPurgeOfMany(t *testing.T) {
	b := lay(t, say(200, "x", minute))
	for i := range 2000 {
		b.do("GET /" + strconv.Itoa(i))
	}
	if !b.PurgeAll(func(key string) bool { return strings.HasPrefix(key, "example.com/1") }) {
		t.Error("nothing was forgotten")
	}
	if s := b.Stats(); s.Pages != 2000-1111 {
		t.Errorf("stats %+v", s)
	}
	none := func(string) bool { return false }
	if b.PurgeAll(none) {
		t.Error("something was forgotten")
	}
	b.now(func(w http.ResponseWriter, _ *http.Request) {
		b.PurgeAll(none) // while this answer is on its way
		say(200, "old", minute)(w, nil)
	})
	b.expect("at first", "old", "fwd=uri-miss")
	b.now(say(200, "new", minute))
	b.expect("then", "new", "fwd=uri-miss")
}

// TestPurgeOfManyMissesNone wants what is just being stored to be seen, for which
// the map must wait.
func TestPurgeOfManyMissesNone(t *testing.T) {
	b := lay(t, say(200, "x", minute))
	e := &entry{header: http.Header{}}
	purged := make(chan struct{})
	b.put("example.com/", b.change("example.com/").Load(), func(page) page {
		go func() {
			b.PurgeAll(func(string) bool { return true })
			close(purged)
		}()
		select {
		case <-purged:
			t.Error("who purges does not wait")
		case <-time.After(50 * time.Millisecond):
		}
		return page{entries: []*entry{e}}
	})
	<-purged
	if s := b.Stats(); s.Pages != 0 {
		t.Errorf("stats %+v", s)
	}
}
