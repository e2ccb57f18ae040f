package registry

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/control"
	"fairlead/userspace/model"
)

// TestTokensOfOtherNetworks has one of the same pool, which may say nothing of backends
// that could not register with it, by address or by URL.
func TestTokensOfOtherNetworks(t *testing.T) {
	conf, other := usual, token+"far"
	conf.Tokens = append(slices.Clone(usual.Tokens), model.RegistrationToken{
		Token: other, Pool: "web", Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, MaxTTL: time.Minute,
	})
	p := &plane{}
	r := open(t, p)
	r.Use(&conf)
	for _, address := range []string{"10.1.2.3:8080", "http://10.1.2.3/a"} {
		id := mustRegister(t, r, `{"address": "`+address+`"}`)
		for _, method := range []string{"PUT", "DELETE"} {
			if status, _ := ask(r, method, "/register/"+id, other, ""); status != http.StatusNotFound {
				t.Errorf("%s of %s with the token of another network: status %d", method, address, status)
			}
			if status, _ := ask(r, method, "/register/"+id, token, ""); status != http.StatusNoContent {
				t.Errorf("%s of %s: status %d", method, address, status)
			}
		}
	}
}

// TestBackBeforeItIsKnown has a rollback bring a backend back before the registry knows.
func TestBackBeforeItIsKnown(t *testing.T) {
	p := &plane{edits: []control.Edit{{Op: control.OpAddBackend, Pool: "web", Backend: "10.0.0.1:1", Lease: time.Second}}}
	r := New(p, slog.New(slog.DiscardHandler)) // which does not follow
	close(r.known)
	r.Use(&usual)
	if status, answer := ask(r, "POST", "/register", token, `{"address": ":1"}`); status != http.StatusOK {
		t.Errorf("status %d, answer %s", status, answer)
	}
}

// A slowPlane calls read, once, when its edits have been read and before they are known.
type slowPlane struct {
	*plane
	read func()
}

func (p *slowPlane) Edits() []control.Edit {
	edits := p.plane.Edits()
	if f := p.read; f != nil {
		p.read = nil
		f()
	}
	return edits
}

// TestGoneWhileTheRegistryLooks has a backend go while the registry looks for another one:
// it is not known any more, and comes back when it registers.
func TestGoneWhileTheRegistryLooks(t *testing.T) {
	p := &slowPlane{plane: &plane{}}
	r := New(p, slog.New(slog.DiscardHandler)) // which does not follow
	close(r.known)
	r.Use(&usual)
	id := mustRegister(t, r, `{"address": ":1"}`)
	gone := make(chan struct{})
	p.read = func() {
		go func() {
			defer close(gone)
			if status, answer := ask(r, "DELETE", "/register/"+id, token, ""); status != http.StatusNoContent {
				t.Errorf("status %d, answer %s", status, answer)
			}
		}()
		select {
		case <-gone:
		case <-time.After(100 * time.Millisecond): // it waits
		}
	}
	r.follow()
	<-gone
	mustRegister(t, r, `{"address": ":1"}`)
	if diff := cmp.Diff([]string{"web 10.0.0.1:1"}, p.has()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestRemovedBeforeItsWeightChanges has the API take a backend away before the registry
// knows: who says then that it has another weight is there again.
func TestRemovedBeforeItsWeightChanges(t *testing.T) {
	p := &plane{}
	r := New(p, slog.New(slog.DiscardHandler)) // which does not follow
	close(r.known)
	r.Use(&usual)
	mustRegister(t, r, `{"address": ":1"}`)
	if _, err := p.Change(t.Context(), control.Request{Edits: []control.Edit{{Op: control.OpRemoveBackend, Pool: "web", Backend: "10.0.0.1:1"}}}); err != nil {
		t.Fatal(err)
	}
	mustRegister(t, r, `{"address": ":1", "weight": 5}`)
	if diff := cmp.Diff([]string{"web 10.0.0.1:1"}, p.has()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestManyFallSilent has them go by a few changes, also where one has gone already.
func TestManyFallSilent(t *testing.T) {
	for gone, most := range []uint64{4, 4 + removedAtOnce} {
		synctest.Test(t, func(t *testing.T) {
			p := &plane{}
			r := open(t, p)
			for i := range 100 {
				mustRegister(t, r, fmt.Sprintf(`{"address": ":%d", "ttl_seconds": 2}`, i+1))
			}
			p.mu.Lock()
			p.edits = p.edits[gone:] // which the registry does not learn
			before := p.number
			p.mu.Unlock()
			time.Sleep(2*time.Second + time.Millisecond)
			synctest.Wait()
			if changes := p.Revision().Number - before; len(p.has()) != 0 || changes > most {
				t.Errorf("%d gone before: %d changes, want %d at most; %d are left", gone, changes, most, len(p.has()))
			}
			if n := len(r.leases); n != 0 {
				t.Errorf("%d leases", n)
			}
		})
	}
}
