package daemon

import (
	"net/http"
	"strings"
	"testing"

	"fairlead/userspace/control"
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

// TestALeaseEndsBesideTheFile has the file get a backend that has registered.
func TestALeaseEndsBesideTheFile(t *testing.T) {
	a, _ := page(t, "a")
	b, _ := page(t, "b")
	const registration = "registration: {listen: " + registerAt + ", tokens: [{token: " + secret + ", pool: main}]}\n"
	c := controlAgent(t, oneSite(b)+registration)
	if status := registerOnce(t, secret, a, 2); status != http.StatusCreated {
		t.Fatalf("status %d", status)
	}
	c.reload(strings.Replace(oneSite(b, a), a+`"}`, a+`", weight: 7}`, 1) + registration)
	await(t, "the end of the lease", func() bool { return len(c.Edits()) == 0 || c.Edits()[0].Op != control.OpAddBackend })
	v := c.await("the file's weight", func(v view.View) bool {
		return len(v.Services[0].Backends) == 2 && v.Services[0].Backends[1].Weight == 7
	})
	if len(c.Edits()) != 0 {
		t.Errorf("edits %+v, backends %+v", c.Edits(), v.Services[0].Backends)
	}
}
