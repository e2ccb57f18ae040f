package daemon

import (
	"net/http"

	"fairlead/userspace/acme"
	"fairlead/userspace/model"
)

// openIssuer returns who gets the certificates that a state wants over ACME: the
// one that there is, if it is the same; nil if it wants none.
func (a *agent) openIssuer(state *model.State) (*acme.Manager, error) {
	have := a.issuer.Load()
	switch {
	case state.ACME == nil:
		return nil, nil
	case have != nil && have.Is(state.ACME):
		return have, nil
	}
	return acme.Open(state.ACME, a.log)
}

// challenge answers what the authority asks, from any goroutine.
func (a *agent) challenge(w http.ResponseWriter, r *http.Request) bool {
	m := a.issuer.Load()
	return m != nil && m.Answer(w, r)
}
