package daemon

import (
	"context"
	"sync"

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

// keepSecrets has the secrets in force read again from time to time.
func (a *agent) keepSecrets() {
	x := a.vault
	if x == nil {
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
