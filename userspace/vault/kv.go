package vault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"fairlead/userspace/model"
)

// field of a secret has what a KV keeps there, in base64.
const field = "fairlead"

// A KV keeps bytes by names below one path of a KV store, each in a secret of its own.
// It may be used by several goroutines. A request has 3 seconds.
type KV struct {
	client
	path string
}

// OpenKV returns the KV below mount/path. It asks nobody; an error means that the file
// of authorities is bad.
func OpenKV(conf *model.Vault, path string) (*KV, error) {
	c, err := newClient(conf, 1)
	if err != nil {
		return nil, err
	}
	return &KV{c, path}, nil
}

// Get returns what is kept by a name, nil if there is nothing, and its version, for
// Put. What was deleted has a version, too.
func (k *KV) Get(ctx context.Context, name string) (data []byte, version int, err error) {
	a, err := k.ask(ctx, http.MethodGet, "data", k.path+"/"+name, nil)
	version = a.Data.Metadata.Version
	if errors.Is(err, errNotThere) {
		return nil, version, nil
	}
	if err == nil && version == 0 {
		err = errFormat
	}
	if err == nil {
		text, ok := a.Data.Data[field].(string)
		if data, err = base64.StdEncoding.DecodeString(text); err != nil || !ok {
			err = errors.New("it is not what fairlead has put there: use another path")
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s/%s of vault: %w", k.path, name, err)
	}
	return data, version, nil
}

// Put keeps data by a name in the place of a version, 0 if there is none, and returns
// the version that this makes. After an error it may be kept nevertheless, now or soon:
// only another Put in the place of the same version settles that.
func (k *KV) Put(ctx context.Context, name string, data []byte, version int) (int, error) {
	body, err := json.Marshal(map[string]any{
		"options": map[string]int{"cas": version},
		"data":    map[string]string{field: base64.StdEncoding.EncodeToString(data)}, // "" for none, not null
	})
	var a answer
	if err == nil {
		a, err = k.ask(ctx, http.MethodPost, "data", k.path+"/"+name, body)
	}
	switch {
	case errors.Is(err, errNotThere):
		mount, _, _ := strings.Cut(k.path, "/")
		err = fmt.Errorf("there is no KV store, version 2, at %s", mount)
	case err == nil && a.Data.Version != version+1:
		err = errFormat
	}
	if err != nil {
		return 0, fmt.Errorf("write %s/%s of vault: %w", k.path, name, err)
	}
	return a.Data.Version, nil
}

// List returns the names below one.
func (k *KV) List(ctx context.Context, name string) ([]string, error) {
	a, err := k.ask(ctx, methodList, "metadata", k.path+"/"+name, nil)
	if err != nil && !errors.Is(err, errNotThere) {
		return nil, fmt.Errorf("list %s/%s of vault: %w", k.path, name, err)
	}
	return a.Data.Keys, nil
}

// Delete drops what is kept by a name, if anything is, with all its versions.
func (k *KV) Delete(ctx context.Context, name string) error {
	_, err := k.ask(ctx, http.MethodDelete, "metadata", k.path+"/"+name, nil)
	if err != nil && !errors.Is(err, errNotThere) {
		return fmt.Errorf("delete %s/%s of vault: %w", k.path, name, err)
	}
	return nil
}

// Close ends idle connections.
func (k *KV) Close() error {
	k.http.CloseIdleConnections()
	return nil
}
