// The vault server of tests is HashiCorp's Vault with its KV store and nothing else,
// in memory: everything between a request and the storage is the real thing.
//
// It prints its address and the token that may do all as a line of JSON, and ends when
// its standard input does.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/helper/namespace"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	log := hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Warn})
	core, token, err := start(log)
	if err != nil {
		return err
	}
	if err := mount(core, token); err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}})}
	go func() {
		fmt.Fprintln(os.Stderr, server.Serve(listener))
	}()
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"address": "http://" + listener.Addr().String(), "token": token}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// start returns a core that is unsealed, and its root token.
func start(log hclog.Logger) (*vault.Core, string, error) {
	storage, err := inmem.NewTransactionalInmem(nil, log)
	if err != nil {
		return nil, "", err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: storage, StorageType: "inmem_transactional", Logger: log, DisableMlock: true,
		BuiltinRegistry: plugins{},
		LogicalBackends: map[string]logical.Factory{"kv": kv.Factory},
	})
	if err != nil {
		return nil, "", err
	}
	ctx := context.Background()
	keys, err := core.Initialize(ctx, &vault.InitParams{
		BarrierConfig:  &vault.SealConfig{SecretShares: 1, SecretThreshold: 1, StoredShares: 1},
		RecoveryConfig: &vault.SealConfig{},
	})
	if err != nil {
		return nil, "", err
	}
	if ok, err := core.Unseal(keys.SecretShares[0]); !ok || err != nil {
		return nil, "", fmt.Errorf("unseal: %t, %w", ok, err)
	}
	return core, keys.RootToken, nil
}

// mount puts a KV store, version 2, at secret, and waits until it answers.
func mount(core *vault.Core, token string) error {
	ask := func(o logical.Operation, path string, data map[string]any) error {
		r, err := core.HandleRequest(namespace.RootContext(context.Background()), &logical.Request{ID: "1", Operation: o, Path: path, ClientToken: token, Data: data})
		if err != nil {
			return err
		}
		return r.Error()
	}
	kind := map[string]any{"type": "kv", "options": map[string]any{"version": "2"}}
	if err := ask(logical.UpdateOperation, "sys/mounts/secret", kind); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	var err error
	for range 300 { // it is empty, but reorganized first
		if err = ask(logical.ReadOperation, "secret/config", nil); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("await the store: %w", err)
}

// plugins are those that the server has: the KV store.
type plugins struct{}

func (plugins) Contains(name string, kind consts.PluginType) bool {
	return name == "kv" && kind == consts.PluginTypeSecrets
}

func (p plugins) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	return func() (any, error) { return logical.Factory(kv.Factory), nil }, p.Contains(name, kind)
}

func (p plugins) Keys(kind consts.PluginType) []string {
	if p.Contains("kv", kind) {
		return []string{"kv"}
	}
	return nil
}

func (p plugins) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, p.Contains(name, kind)
}

func (plugins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
