package notify

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/leak"
	"fairlead/userspace/model"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

const patience = 20 * time.Second

// begin runs a Notifier for some receivers until the test ends.
func begin(t *testing.T, log io.Writer, conf ...model.Notify) *Notifier {
	t.Helper()
	for i := range conf {
		if conf[i].Timeout == 0 {
			conf[i].Timeout = patience
		}
		conf[i].Rate = max(conf[i].Rate, 1)
	}
	n := New(slog.New(slog.NewTextHandler(log, nil)))
	n.Use(conf)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return n
}

var down = Event{Time: time.Unix(1700000000, 0).UTC(), Service: "web", Backend: "10.0.0.1:80", Name: "app.test", State: "down", Reason: "refused"}

const downText = `{"time":"2023-11-14T22:13:20Z","service":"web","backend":"10.0.0.1:80","name":"app.test","state":"down","reason":"refused"}`

// hook opens a web hook that keeps what it gets.
func hook(t *testing.T, status int) (url string, got chan string) {
	got = make(chan string, 1000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what it lacks is seen by who compares
		got <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + r.Header.Get("X-Key") + " " + string(body)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func receive(t *testing.T, from chan string) string {
	t.Helper()
	select {
	case s := <-from:
		return s
	case <-time.After(patience):
		t.Fatal("nothing comes")
		return ""
	}
}

func TestAWebHookIsPostedTo(t *testing.T) {
	url, got := hook(t, 204)
	n := begin(t, io.Discard, model.Notify{URL: url + "/x", Headers: []model.Header{{Name: "x-key", Value: "v"}}})
	n.Tell(down)
	if diff := cmp.Diff("POST /x application/json v "+downText, receive(t, got)); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

// eventually waits until a file has what is wanted.
func eventually(t *testing.T, path, want string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		data, _ := os.ReadFile(path) // it may not be there yet
		if string(data) == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q, want %q", data, want)
		}
	}
}

func TestACommandIsRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	script := `{ echo "$1 $FAIRLEAD_SERVICE $FAIRLEAD_BACKEND $FAIRLEAD_NAME $FAIRLEAD_STATE $FAIRLEAD_REASON"; cat; } > "$0"`
	n := begin(t, io.Discard, model.Notify{Command: []string{"/bin/sh", "-c", script, path, "one"}})
	n.Tell(down)
	eventually(t, path, "one web 10.0.0.1:80 app.test down refused\n"+downText)
}

// A logFile is what a Notifier logs.
type logFile struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// await waits for some words.
func (l *logFile) await(t *testing.T, words string) string {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		text := l.text.String()
		l.mu.Unlock()
		if strings.Contains(text, words) {
			return text
		}
		if time.Now().After(end) {
			t.Fatalf("log %q has no %q", text, words)
		}
	}
}

func TestWhatIsNotDeliveredIsLoggedWithoutSecrets(t *testing.T) {
	moved, _ := hook(t, 302)
	for name, row := range map[string]struct {
		conf model.Notify
		want string
	}{
		"a redirect is not followed": {model.Notify{URL: moved + "/secret"}, "post notification: status 302"},
		"nobody there":               {model.Notify{URL: "http://127.0.0.1:1/secret"}, "connection refused"},
		"a command that fails":       {model.Notify{Command: []string{"/bin/sh", "-c", "echo alas >&2; exit 3"}}, `run command: exit status 3: \"alas\"`},
		"a command that hangs":       {model.Notify{Command: []string{"/bin/sleep", "1000"}, Timeout: 50 * time.Millisecond}, "deadline exceeded"},
		"no such command":            {model.Notify{Command: []string{"/nowhere"}}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var log logFile
			begin(t, &log, row.conf).Tell(down)
			if text := log.await(t, row.want); strings.Contains(text, "secret") {
				t.Errorf("log %q", text)
			}
		})
	}
}

func TestEventsBeyondTheBoundAreDroppedAndCounted(t *testing.T) {
	url, got := hook(t, 200)
	var log logFile
	goOn := filepath.Join(t.TempDir(), "go-on")
	n := begin(t, &log, model.Notify{URL: url, Rate: 6000},
		model.Notify{Command: []string{"/bin/sh", "-c", `until [ -e "$0" ]; do sleep 0.01; done; cat >> "$0"`, goOn}, Rate: 6000})
	for range maxWaiting + 100 { // none of which blocks
		n.Tell(down)
	}
	receive(t, got) // the hook does not wait for the command
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		data, err := os.ReadFile(goOn)
		if err != nil {
			t.Fatal(err)
		}
		var first, second Event
		d := json.NewDecoder(strings.NewReader(string(data)))
		if d.Decode(&first) == nil && d.Decode(&second) == nil {
			if n := first.Dropped + second.Dropped; n < 99 || n > 100 { // one may be with the command
				t.Errorf("dropped %d and %d", first.Dropped, second.Dropped)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the command got %q", data)
		}
	}
}

func TestReceiversThatStayKeepTheirEvents(t *testing.T) {
	url, got := hook(t, 200)
	stays := model.Notify{URL: url, Timeout: patience, Rate: 60}
	n := New(slog.New(slog.DiscardHandler))
	n.Use([]model.Notify{stays})
	n.Tell(down)
	n.Use([]model.Notify{{Command: []string{"/bin/true"}, Timeout: patience, Rate: 60}, stays})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	receive(t, got)
	n.Use(nil)
	if n.Wanted() {
		t.Error("events are wanted without receivers")
	}
	stop()
	running.Wait()
}

func TestPace(t *testing.T) {
	p, now := pace{gap: time.Second}, time.Unix(1000, 0)
	for i := range 25 {
		wait := p.wait(now)
		if want := time.Second; i < atOnce && wait != 0 || i >= atOnce && wait != want {
			t.Fatalf("event %d waits %v", i, wait)
		}
		now = now.Add(wait)
		p.spend(now)
	}
	if now = now.Add(atOnce * time.Second); p.wait(now) != 0 {
		t.Error("silence does not make up for haste")
	}
}
