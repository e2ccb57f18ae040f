package registry

import (
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"testing"
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

// TestRemovedBeforeItsWeightChanges has the API take a backend away before the registry
// knows: who says then that it has another weight is there again.
func TestRemovedBeforeItsWeightChanges(t *testing.T) {
	p := &plane{}
	r := New(p, slog.New(slog.DiscardHandler)) // which does not follow
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
