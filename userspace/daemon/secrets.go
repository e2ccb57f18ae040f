package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"fairlead/userspace/config"
	"fairlead/userspace/model"
	"fairlead/userspace/state"
	"fairlead/userspace/vault"
)

// secrets are those that a state names, and what reads them again.
type secrets struct {
	store *vault.Store
	// registration is that of the state, with the tokens that it names.
	registration *model.Registration
	stop         context.CancelFunc
	running      sync.WaitGroup
}

// A reading reads the secrets of a state when it is called first, for which their server
// has 3 seconds: so that is for others than loop to do.
type reading func() (*secrets, error)

func readingOf(state *model.State) reading {
	return sync.OnceValues(func() (*secrets, error) { return openSecrets(state) })
}

// openSecrets reads the secrets that a state names; nil if it names none.
func openSecrets(state *model.State) (*secrets, error) {
	wanted := vault.Fields{}
	for i := range state.Services {
		if t := state.Services[i].HTTP.TLS; t != nil {
			for _, c := range t.Certificates {
				if c.Vault != "" {
					wanted[c.Vault] = []string{"cert", "key"}
				}
			}
		}
	}
	if r := state.Registration; r != nil {
		for i := range r.Tokens {
			if at := r.Tokens[i].Vault; at != "" {
				wanted[at] = append(wanted[at], "token")
			}
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	store, err := vault.Open(state.Vault)
	if err != nil {
		return nil, err
	}
	if err := store.Read(wanted); err != nil {
		return nil, err
	}
	x := &secrets{store: store}
	if x.registration, err = withTokens(state.Registration, store.Token); err != nil {
		return nil, err
	}
	return x, nil
}

// withTokens returns a registration with the tokens of the secrets that it names. Its
// errors do not show them.
func withTokens(conf *model.Registration, read func(path string) (string, error)) (*model.Registration, error) {
	if conf == nil {
		return nil, nil
	}
	full := *conf
	full.Tokens = slices.Clone(conf.Tokens)
	known := map[string]int{}
	for i := range full.Tokens {
		t := &full.Tokens[i]
		if t.Vault != "" {
			var err error
			if t.Token, err = read(t.Vault); err != nil {
				return nil, err
			}
			if fault := config.TokenFault(t.Token); fault != "" {
				return nil, fmt.Errorf("registration: the token of %s in vault %s", t.Vault, fault)
			}
		}
		if other, ok := known[t.Token]; ok {
			return nil, fmt.Errorf("registration: tokens[%d] and tokens[%d] are the same, so they would not say which pool is meant: use another", other, i)
		}
		known[t.Token] = i
	}
	return &full, nil
}

// tokens returns the registration of a state with its tokens.
func (x *secrets) tokens(conf *model.Registration) *model.Registration {
	if x == nil {
		return conf
	}
	return x.registration
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
		x.store.Run(ctx, func() {
			a.send(ctx, a.rereadFiles)
			a.send(ctx, a.rereadTokens)
		})
	})
}

// rereadTokens takes over the tokens of backends that have changed.
func (a *agent) rereadTokens() {
	x := a.vault
	if x == nil {
		return
	}
	fresh, err := withTokens(a.state.Registration, x.store.Token)
	if a.news("tokens", err) {
		a.log.Error("token not taken, the old one stays", "err", err)
	}
	if err == nil {
		x.registration = fresh
		a.doors.registry.Use(fresh)
	}
}

// close ends the reading. It may be called from loop, which send gives up then.
func (x *secrets) close() {
	if x != nil && x.stop != nil {
		x.stop()
		x.running.Wait()
	}
}

var errNoVault = errors.New("open state: it is to be in a KV store: write vault: {address: ...} at the top of the configuration")

// openVaultStore opens the state at a path of a KV store.
func openVaultStore(ctx context.Context, path string, conf *model.Vault, log *slog.Logger) (state.Store, error) {
	if conf == nil {
		return nil, errNoVault
	}
	kv, err := vault.OpenKV(conf, path)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	s, former, err := state.OpenVault(ctx, kv, path)
	if err != nil {
		return nil, err
	}
	if former != "" {
		log.Warn("state taken over from an agent that has not closed it: if that still runs, its changes are refused from now on", "state", path, "agent", former)
	}
	return s, nil
}
