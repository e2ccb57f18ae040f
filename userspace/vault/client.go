package vault

import (
	"bytes"
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
	"time"

	"fairlead/internal/regular"
	"fairlead/userspace/certs"
	"fairlead/userspace/model"
)

const (
	timeout   = 3 * time.Second // of a request, and of all secrets that are read at once
	maxAnswer = 4 << 20
)

var (
	errElsewhere = errors.New("it leads elsewhere: give the address of the active server")
	errNoToken   = errors.New("no token: name its file in token-file, or set VAULT_TOKEN")
	errNotThere  = errors.New("there is no such secret")
	errFormat    = errors.New("the answer is not that of a KV store, version 2")
)

// A client asks one server.
type client struct {
	conf model.Vault
	http *http.Client
}

// newClient returns a client that keeps idle connections at most. An error means that
// the file of authorities is bad.
func newClient(conf *model.Vault, idle int) (client, error) {
	config := &tls.Config{}
	if conf.CA != "" {
		var err error
		if config.RootCAs, err = certs.ReadPool(conf.CA); err != nil {
			return client{}, err
		}
	}
	transport := &http.Transport{
		TLSClientConfig: config, Proxy: http.ProxyFromEnvironment,
		DisableKeepAlives: idle == 0, MaxIdleConnsPerHost: idle, IdleConnTimeout: time.Minute,
	}
	return client{conf: *conf, http: &http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errElsewhere }, // the token would go along
	}}, nil
}

// ask sends a request about a path, which names its mount first; part is data or
// metadata. An answer may be empty. Beside errNotThere it may have a version.
func (c *client) ask(ctx context.Context, method, part, path string, body []byte) (answer, error) {
	token, err := c.token()
	if err != nil {
		return answer{}, err
	}
	mount, rest, _ := strings.Cut(path, "/")
	verb := verbs[method]
	at := c.conf.Address + "/v1/" + url.PathEscape(mount) + "/" + part + "/" + (&url.URL{Path: rest}).EscapedPath()
	if method == methodList { // which not all proxies let through
		at, method = at+"?list=true", http.MethodGet
	}
	r, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("X-Vault-Token", token)
	r.Header.Set("X-Vault-Request", "true")
	if c.conf.Namespace != "" {
		r.Header.Set("X-Vault-Namespace", c.conf.Namespace)
	}
	res, err := c.http.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK, http.StatusNoContent, http.StatusNotFound:
	case http.StatusForbidden:
		return answer{}, fmt.Errorf("not allowed: the token is not good, or no policy lets it %s %s/%s/%s", verb, mount, part, rest)
	case http.StatusServiceUnavailable:
		return answer{}, errors.New("the server is sealed, or not ready")
	default:
		return answer{}, fmt.Errorf("status %d", res.StatusCode)
	}
	var a answer
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err == nil && len(data) > 0 && json.Unmarshal(data, &a) != nil {
		err = errFormat
	}
	if res.StatusCode == http.StatusNotFound {
		return a, errNotThere
	}
	return a, err
}

const methodList = "LIST"

// verbs say what a policy must allow.
var verbs = map[string]string{http.MethodGet: "read", methodList: "list", http.MethodPost: "create and update", http.MethodDelete: "delete"}

// An answer is the part of what the server says that counts here. What is wrong with
// one is never quoted.
type answer struct {
	Data struct {
		Data     map[string]any `json:"data"`
		Metadata struct {
			Version int `json:"version"`
		} `json:"metadata"`
		Version int      `json:"version"` // of what was written
		Keys    []string `json:"keys"`    // of a list
	} `json:"data"`
}

// token returns the one to show: that of the file, which others may renew, or that
// of the environment.
func (c *client) token() (string, error) {
	if c.conf.TokenFile == "" {
		if token := os.Getenv("VAULT_TOKEN"); token != "" {
			return token, nil
		}
		return "", errNoToken
	}
	data, err := regular.Read(c.conf.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
