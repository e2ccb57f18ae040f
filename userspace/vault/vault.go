// Package vault reads secrets from a KV v2 store of Vault or OpenBao, and keeps other
// things there.
//
// A [Store] reads secrets of others, certificates with their keys and tokens, and has
// them in memory, never elsewhere. A [KV] keeps bytes by names. Where the token comes
// from, and that it stays good, is for others to see to.
package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"fairlead/userspace/model"
)

// A Store is what was read of a KV store. It is safe for concurrent use.
type Store struct {
	client

	mu   sync.Mutex
	read map[string]secret
}

// Fields say of secrets, each named by mount/path, which fields they must have.
type Fields map[string][]string

// A secret is what is known of one; err says why it is not newer.
type secret struct {
	fields []string // that it must have
	values map[string]string
	err    error
}

// Open returns a Store of which nothing is read yet. An error means that the file
// of authorities is bad.
func Open(conf *model.Vault) (*Store, error) {
	c, err := newClient(conf, 0)
	if err != nil {
		return nil, err
	}
	return &Store{client: c, read: map[string]secret{}}, nil
}

// Read reads secrets at once. Errors name the secret.
func (s *Store) Read(secrets Fields) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(secrets)) {
		if err := s.refresh(ctx, path, secrets[path]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Run reads all secrets again from time to time until ctx is done, and calls
// changed when one is another, or can or cannot be read any more.
func (s *Store) Run(ctx context.Context, changed func()) {
	tick := time.NewTicker(s.conf.Refresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.refreshAll(ctx) {
			changed()
		}
	}
}

func (s *Store) refreshAll(ctx context.Context) (changed bool) {
	s.mu.Lock()
	before := map[string]secret{}
	for path, known := range s.read {
		before[path] = known
	}
	s.mu.Unlock()
	for path, old := range before {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		_ = s.refresh(ctx, path, old.fields) // kept beside the secret
		cancel()
		s.mu.Lock()
		now := s.read[path]
		s.mu.Unlock()
		changed = changed || !maps.Equal(now.values, old.values) || (now.err == nil) != (old.err == nil)
	}
	return changed
}

// refresh reads one secret. An error leaves what was read before.
func (s *Store) refresh(ctx context.Context, path string, fields []string) error {
	fresh := secret{fields: fields}
	a, err := s.ask(ctx, http.MethodGet, "data", path, nil)
	if err == nil {
		fresh.values, err = a.values(fields)
	}
	if err != nil {
		err = fmt.Errorf("read %s of vault: %w", path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		fresh.values, fresh.err = s.read[path].values, err
	}
	s.read[path] = fresh
	return err
}

// Secret returns the chain and the key of a certificate that was read last, or why
// they could not be.
func (s *Store) Secret(path string) (chain, key []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.read[path]
	return []byte(known.values["cert"]), []byte(known.values["key"]), known.err
}

// Token returns the token of a secret that was read last, or why it could not be.
func (s *Store) Token(path string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.read[path]
	return known.values["token"], known.err
}

// values returns some fields of a secret.
func (a *answer) values(fields []string) (map[string]string, error) {
	all := map[string]string{}
	for _, name := range fields {
		text, ok := a.Data.Data[name].(string)
		if !ok || text == "" {
			return nil, fmt.Errorf("the secret has no %s: put %s there", name, wanted[name])
		}
		all[name] = text
	}
	return all, nil
}

// wanted says what fields have.
var wanted = map[string]string{"cert": "PEM", "key": "PEM", "token": "text"}
