// Package vault reads certificates and their keys from a KV v2 store of Vault or
// OpenBao, and keeps them in memory, never elsewhere.
//
// A secret has the chain in cert and the key in key, both as PEM. The package asks
// for nothing but secrets: where the token comes from, and that it stays good, is
// for others to see to.
package vault

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"fairlead/userspace/certs"
	"fairlead/userspace/model"
)

const (
	timeout   = 3 * time.Second // of all that is read at once
	maxAnswer = 1 << 20
)

// A Store is what was read of a KV store. It is safe for concurrent use.
type Store struct {
	conf   model.Vault
	client *http.Client

	mu   sync.Mutex
	read map[string]secret
}

// A secret is what is known of one; err says why it is not newer.
type secret struct {
	Cert, Key string
	err       error
}

// Open returns a Store of which nothing is read yet. An error means that the file
// of authorities is bad.
func Open(conf *model.Vault) (*Store, error) {
	config := &tls.Config{}
	if conf.CA != "" {
		var err error
		if config.RootCAs, err = certs.ReadPool(conf.CA); err != nil {
			return nil, err
		}
	}
	return &Store{conf: *conf, read: map[string]secret{}, client: &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errElsewhere }, // the token would go along
	}}, nil
}

var (
	errElsewhere = errors.New("it leads elsewhere: give the address of the active server")
	errNoToken   = errors.New("no token: name its file in token-file, or set VAULT_TOKEN")
)

// Read reads secrets, each named by mount/path, at once. Errors name the secret.
func (s *Store) Read(paths []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var errs []error
	for _, path := range paths {
		if err := s.refresh(ctx, path); err != nil {
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
		_ = s.refresh(ctx, path) // kept beside the secret
		cancel()
		s.mu.Lock()
		now := s.read[path]
		s.mu.Unlock()
		changed = changed || now.Cert != old.Cert || now.Key != old.Key || (now.err == nil) != (old.err == nil)
	}
	return changed
}

// refresh reads one secret. An error leaves what was read before.
func (s *Store) refresh(ctx context.Context, path string) error {
	fresh, err := s.fetch(ctx, path)
	if err != nil {
		err = fmt.Errorf("read %s of vault: %w", path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		fresh = s.read[path]
		fresh.err = err
	}
	s.read[path] = fresh
	return err
}

// Secret returns what was read of one last, or why it could not be.
func (s *Store) Secret(path string) (chain, key []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.read[path]
	return []byte(known.Cert), []byte(known.Key), known.err
}

func (s *Store) fetch(ctx context.Context, path string) (secret, error) {
	token, err := s.token()
	if err != nil {
		return secret{}, err
	}
	mount, rest, _ := strings.Cut(path, "/")
	at := s.conf.Address + "/v1/" + url.PathEscape(mount) + "/data/" + (&url.URL{Path: rest}).EscapedPath()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return secret{}, err
	}
	r.Header.Set("X-Vault-Token", token)
	r.Header.Set("X-Vault-Request", "true")
	if s.conf.Namespace != "" {
		r.Header.Set("X-Vault-Namespace", s.conf.Namespace)
	}
	res, err := s.client.Do(r)
	if err != nil {
		return secret{}, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusForbidden:
		return secret{}, fmt.Errorf("not allowed: the token is not good, or no policy lets it read %s/data/%s", mount, rest)
	case http.StatusNotFound:
		return secret{}, errors.New("there is no such secret")
	case http.StatusServiceUnavailable:
		return secret{}, errors.New("the server is sealed, or not ready")
	default:
		return secret{}, fmt.Errorf("status %d", res.StatusCode)
	}
	return decode(io.LimitReader(res.Body, maxAnswer))
}

// decode reads the answer of the server. What is wrong with it is not quoted.
func decode(r io.Reader) (secret, error) {
	var answer struct {
		Data struct {
			Data map[string]any `json:"data"`
		} `json:"data"`
	}
	if json.NewDecoder(r).Decode(&answer) != nil {
		return secret{}, errors.New("the answer is not that of a KV store, version 2")
	}
	var s secret
	for field, to := range map[string]*string{"cert": &s.Cert, "key": &s.Key} {
		text, ok := answer.Data.Data[field].(string)
		if !ok || text == "" {
			return secret{}, fmt.Errorf("the secret has no %s: put PEM there", field)
		}
		*to = text
	}
	return s, nil
}

// token returns the one to show: that of the file, which others may renew, or that
// of the environment.
func (s *Store) token() (string, error) {
	if s.conf.TokenFile == "" {
		if token := os.Getenv("VAULT_TOKEN"); token != "" {
			return token, nil
		}
		return "", errNoToken
	}
	data, err := os.ReadFile(s.conf.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
