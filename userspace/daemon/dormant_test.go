package daemon

import (
	"net/http"
	"strings"
	"testing"

	"fairlead/userspace/view"
)

// TestSilentBackendsDoNotComeBack has a lease end while the file lacks the service that
// the backend has registered with.
func TestSilentBackendsDoNotComeBack(t *testing.T) {
	a, _ := page(t, "a")
	b, _ := page(t, "b")
	const registration = "registration: {listen: " + registerAt + ", tokens: [{token: " + secret + ", pool: main}, {token: " + secret + "x, pool: raw}]}\n"
	site := oneSite(b)
	both := strings.Replace(site, "pools:", "  - {name: raw, listen: '127.0.7.3:5432', forward: proxy, backends: [{address: '"+b+"'}]}\npools:", 1) + registration
	c := controlAgent(t, both)
	if status := registerOnce(t, secret+"x", a, 2); status != http.StatusCreated {
		t.Fatalf("status %d", status)
	}
	c.reload(site + strings.Replace(registration, ", {token: "+secret+"x, pool: raw}", "", 1))
	c.await("one service", func(v view.View) bool { return len(v.Services) == 1 })
	await(t, "the end of the edit", func() bool { return len(c.Edits()) == 0 })
	c.reload(both)
	v := c.await("both services", func(v view.View) bool { return len(v.Services) == 2 })
	if got := v.Services[1].Backends; len(got) != 1 || got[0].Address != b {
		t.Errorf("backends %+v", got)
	}
}
