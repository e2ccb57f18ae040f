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

// closeIssuers closes those of two that are not in force.
func (a *agent) closeIssuers(one, other *acme.Manager) {
	for _, m := range []*acme.Manager{one, other} {
		if m != nil && m != a.issuer.Load() {
			m.Close()
		}
	}
}

// openFirstSafe reads the files of the state that the agent begins with.
func (a *agent) openFirstSafe() error {
	issuer, err := a.openIssuer(a.state)
	if err != nil {
		return err
	}
	vault, err := openSecrets(a.state)
	if err == nil {
		a.safe, err = openSafe(a.state, nil, sourcesOf(issuer, vault))
	}
	if err != nil {
		a.closeIssuers(issuer, nil)
		return err
	}
	a.issuer.Store(issuer)
	a.keepSecrets(vault)
	return nil
}

// challenge answers what the authority asks, from any goroutine.
func (a *agent) challenge(w http.ResponseWriter, r *http.Request) bool {
	m := a.issuer.Load()
	return m != nil && m.Answer(w, r)
}
