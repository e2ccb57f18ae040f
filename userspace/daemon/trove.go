package daemon

import (
	"fairlead/userspace/acme"
	"fairlead/userspace/certs"
	"fairlead/userspace/model"
)

// A trove is all certificates of a state, and where those come from that are in no
// file: nil where the state has none such.
type trove struct {
	safe   *safe
	issuer *acme.Manager
	vault  *secrets
}

// trove returns the one in force.
func (a *agent) trove() trove { return trove{a.safe, a.issuer.Load(), a.vault} }

// openTrove reads what a state names, its secrets by read. It is put in force by
// useTrove, or dropped.
func (a *agent) openTrove(state *model.State, read reading) (t trove, err error) {
	if t.issuer, err = a.openIssuer(state); err != nil {
		return trove{}, err
	}
	if t.vault, err = read(); err == nil {
		t.safe, err = openSafe(state, nil, t.sources())
	}
	if err != nil {
		a.dropTrove(t)
		return trove{}, err
	}
	return t, nil
}

// dropTrove closes what of t is not in force.
func (a *agent) dropTrove(t trove) {
	if t.issuer != nil && t.issuer != a.issuer.Load() {
		t.issuer.Close()
	}
}

// useTrove puts t in force.
func (a *agent) useTrove(t trove) {
	old := a.trove()
	a.safe = t.safe
	a.issuer.Store(t.issuer)
	a.dropTrove(old)
	if t.vault != old.vault {
		old.vault.close()
		a.vault = t.vault
		a.keepSecrets()
	}
}

// sources returns where certificates come from that are in no file.
func (t *trove) sources() certs.Sources {
	from := certs.Sources{Issued: t.issuer}
	if t.vault != nil {
		from.Secret = t.vault.store.Secret
	}
	return from
}
