package config

import (
	"net/netip"
	"net/url"
	"strings"
	"time"

	"fairlead/userspace/model"
)

// vault reads where secrets are.
func (r *reader) vault(v value) *model.Vault {
	x := &model.Vault{Refresh: time.Minute}
	before := len(r.faults)
	met := r.object(v, fields{
		"address": func(v value) { r.vaultAddress(v, &x.Address) },
		"token-file": func(v value) {
			if r.filePath(v, &x.TokenFile) {
				r.readable(v, x.TokenFile)
			}
		},
		"ca": func(v value) {
			if r.filePath(v, &x.CA) {
				r.authorities(v, x.CA)
			}
		},
		"namespace": func(v value) { r.set(v, &x.Namespace) },
		"refresh":   func(v value) { r.duration(v, &x.Refresh, minTimeout, maxTimeout) },
	})
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "address", "is missing: give the server's URL, such as https://vault.example.com:8200")
	}
	return x
}

// vaultAddress reads a URL by which nobody can listen.
func (r *reader) vaultAddress(v value, p *string) {
	text, ok := r.text(v)
	if !ok {
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || strings.ContainsAny(text, "?#") {
		r.fault(v, "%s is not the URL of a server: write it like https://vault.example.com:8200", r.quoteURL(text))
		return
	}
	if host, err := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && (err != nil || !host.IsLoopback()) {
		r.fault(v, "%s would show keys to the network: use https, or an address such as 127.0.0.1", quote(text))
		return
	}
	*p = strings.TrimRight(text, "/")
}

// secret reads mount/path.
func (r *reader) secret(v value, p *string) {
	text, ok := r.text(v)
	if !ok {
		return
	}
	if !isSecretPath(text) {
		r.fault(v, "%s is not a secret: write its mount and its path, such as secret/tls/example.com", quote(text))
		return
	}
	*p = text
}

// isSecretPath reports whether a text is like mount/path.
func isSecretPath(text string) bool {
	mount, path, _ := strings.Cut(text, "/")
	return mount != "" && path != "" && !strings.Contains("/"+text+"/", "/../") && !strings.Contains(text, "//") && !strings.HasSuffix(text, "/")
}

// linkVault finds what is to be in a KV store without a server.
func (r *reader) linkVault(state *model.State, services []service, x *model.Vault) {
	state.Vault = x
	if x != nil {
		return
	}
	wanted := r.inVault
	for i := range services {
		wanted = append(wanted, services[i].http.secrets...)
	}
	for _, v := range wanted {
		r.fault(v, "needs a server: write vault: {address: ...} at the top of the file")
	}
}
