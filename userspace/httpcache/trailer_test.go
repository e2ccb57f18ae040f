package httpcache

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A sum is what a backend says after the body, without having announced it.
func sum(w http.ResponseWriter) { w.Header().Set(http.TrailerPrefix+"X-Sum", "1") }

func TestAnswersWithTrailersAreNotStored(t *testing.T) {
	for name, length := range map[string]string{"of known length": "Content-Length: 1", "of unknown length": "X: x"} {
		t.Run(name, func(t *testing.T) {
			b := lay(t, func(w http.ResponseWriter, _ *http.Request) {
				addAll(w.Header(), []string{minute, length})
				_, _ = io.WriteString(w, "x")
				sum(w)
			})
			for range 2 {
				if got := b.do("GET /").Result().Trailer.Get("X-Sum"); got != "1" {
					t.Errorf("trailer %q", got)
				}
			}
			if s := b.Stats(); s.Pages != 0 || s.Hits != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestAnswersWithTrailersThatAreFetchedAsideAreNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const now = "Cache-Control: max-age=0, stale-while-revalidate=60"
		b := lay(t, say(200, "old", now))
		b.do("GET /")
		time.Sleep(time.Second)
		b.now(func(w http.ResponseWriter, _ *http.Request) {
			addAll(w.Header(), []string{now})
			_, _ = io.WriteString(w, "new")
			sum(w)
		})
		b.expect("while another is fetched", "old", "hit")
		b.aside.Wait()
		b.expect("when it was not to be stored", "new", "fwd=uri-miss")
	})
}

// TestTrailersAreNoHeaders wants those of a 304, as HTTP/2 has them, in no other
// answer.
func TestTrailersAreNoHeaders(t *testing.T) {
	b := lay(t, say(200, "x", "Cache-Control: no-cache", `Etag: "a"`))
	b.do("GET /")
	b.now(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotModified)
		sum(w)
	})
	for range 2 {
		w := b.expect("when it was validated", "x", "fwd=stale; fwd-status=304")
		if got := w.Header()[http.TrailerPrefix+"X-Sum"]; got != nil {
			t.Errorf("header %q", got)
		}
	}
}
