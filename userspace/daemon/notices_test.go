package daemon

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"fairlead/userspace/notify"
)

func TestChangesAreTold(t *testing.T) {
	events := make(chan notify.Event, 100)
	hook := httpServer(t, func(_ http.ResponseWriter, r *http.Request) {
		var e notify.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		events <- e
	})
	a, sick := page(t, "a")
	runAgent(t, fmt.Sprintf("notify: [{url: 'http://%s/'}]\nservices: [{name: web, listen: '%s', forward: http, backends: [{address: %q}], %s}]\n", hook, site, a, quickHealth))
	// A loaded machine may make more of them than the test does.
	await := func(backend, state string) notify.Event {
		t.Helper()
		for end := time.After(20 * time.Second); ; {
			select {
			case e := <-events:
				if e.Backend == backend && e.State == state {
					return e
				}
			case <-end:
				t.Fatalf("nobody is told that %q is %s", backend, state)
			}
		}
	}
	fetch(t, "/")
	sick.Store(true)
	if e := await(a, "down"); e.Service != "web" || e.Reason == "" || e.Time.IsZero() {
		t.Errorf("event %+v", e)
	}
	await("", "none")
	sick.Store(false)
	await(a, "up")
	await("", "up")
}
