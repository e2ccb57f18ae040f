package daemon

import (
	"context"
	"sync"

	"fairlead/userspace/acme"
	"fairlead/userspace/certs"
	"fairlead/userspace/model"
	"fairlead/userspace/vault"
)

// secrets are those that a state names, and what reads them again.
type secrets struct {
	store   *vault.Store
	stop    context.CancelFunc
	running sync.WaitGroup
}

// openSecrets reads the secrets that a state names; nil if it names none.
func openSecrets(state *model.State) (*secrets, error) {
	if state.Vault == nil {
		return nil, nil
	}
	store, err := vault.Open(state.Vault)
	if err != nil {
		return nil, err
	}
	var paths []string
	for i := range state.Services {
		if t := state.Services[i].HTTP.TLS; t != nil {
			for _, c := range t.Certificates {
				if c.Vault != "" {
					paths = append(paths, c.Vault)
				}
			}
		}
	}
	if err := store.Read(paths); err != nil {
		return nil, err
	}
	return &secrets{store: store}, nil
}

// keepSecrets puts x in place of the secrets that there are, and has them read
// again from time to time.
func (a *agent) keepSecrets(x *secrets) {
	a.vault.close()
	if a.vault = x; x == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	x.running.Go(func() {
		x.store.Run(ctx, func() { a.send(ctx, a.rereadFiles) })
	})
}

// close ends the reading. It may be called from loop, which send gives up then.
func (x *secrets) close() {
	if x != nil && x.stop != nil {
		x.stop()
		x.running.Wait()
	}
}

// sourcesOf returns where certificates come from that are in no file.
func sourcesOf(issuer *acme.Manager, x *secrets) certs.Sources {
	from := certs.Sources{Issued: issuer}
	if x != nil {
		from.Secret = x.store.Secret
	}
	return from
}
