package config

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"fairlead/userspace/certs"
	"fairlead/userspace/model"
)

// Bounds of registration.
const (
	minToken     = 16 // bytes
	usualMaxTTL  = 5 * time.Minute
	longestLease = 24 * time.Hour
)

// A registration is a model.Registration and the places of what it names.
type registration struct {
	*model.Registration
	listen value
	pools  []value
}

// registration reads where and how backends register themselves.
func (r *reader) registration(v value) registration {
	x := registration{Registration: &model.Registration{}}
	before := len(r.faults)
	met := r.object(v, fields{
		"listen": func(v value) {
			s, ok := r.text(v)
			if !ok {
				return
			}
			var err error
			if x.Listen, err = Listener(s); err != nil || s == "off" {
				r.fault(v, "%s is not an address to listen on: write it like 127.0.0.1:8500", quote(s))
				return
			}
			x.listen = v
			r.own = append(r.own, ownListener{x.Listen, "where backends register, by registration.listen", v})
		},
		"cert":   func(v value) { r.filePath(v, &x.Cert) },
		"key":    func(v value) { r.filePath(v, &x.Key) },
		"tokens": func(v value) { r.tokens(v, &x) },
	})
	if len(met) == 0 && len(r.faults) > before {
		return x
	}
	r.require(v, met, "listen", "is missing: give an address and port, such as 127.0.0.1:8500")
	r.require(v, met, "tokens", "is missing: list at least one, such as - {token: file:/etc/fairlead/web.token, pool: web}")
	switch {
	case x.Cert != "" && x.Key == "":
		r.require(v, met, "key", "is missing: name the file of the certificate's key, in PEM")
	case x.Key != "" && x.Cert == "":
		r.require(v, met, "cert", "is missing: name the file of the certificate, in PEM")
	case x.Cert == "" && x.listen.Node != nil && !onLoopback(x.Listen):
		r.fault(x.listen, "%s would show tokens to the network: give cert and key, or listen on 127.0.0.1 or [::1]", quote(x.Listen))
	case x.Cert != "" && r.look:
		if _, err := certs.Read(model.Certificate{Cert: x.Cert, Key: x.Key}); err != nil {
			r.fault(met["cert"], "%v", err)
		}
	}
	return x
}

// readRegisters notes which pools have tokens, before anything else is read.
func (r *reader) readRegisters(v value) {
	r.registers = map[string]bool{}
	tokens := lookup(lookup(v.Node, "registration"), "tokens")
	if tokens == nil {
		return
	}
	for _, t := range tokens.Content {
		if pool := lookup(t, "pool"); pool != nil {
			r.registers[pool.Value] = true
		}
	}
}

// onLoopback reports whether nobody else reaches "address:port".
func onLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// tokens reads who may register.
func (r *reader) tokens(v value, x *registration) {
	ok := r.list(v, func(v value) {
		t := model.RegistrationToken{MaxTTL: usualMaxTTL}
		var pool value
		before := len(r.faults)
		met := r.object(v, fields{
			"token": func(v value) { r.token(v, x, &t.Token) },
			"vault": func(v value) { r.tokenSecret(v, x, &t.Vault) },
			"pool": func(v value) {
				if r.word(v, &t.Pool) {
					pool = v
				}
			},
			"networks": func(v value) { t.Networks = r.backendNetworks(v) },
			"max-ttl":  func(v value) { r.duration(v, &t.MaxTTL, minTimeout, longestLease) },
		})
		if len(met) > 0 || len(r.faults) == before {
			if _, ok := met["vault"]; ok {
				r.refuseKeys(met, []string{"token"}, "stands beside vault, whose secret has it: remove one of the two")
			} else {
				r.require(v, met, "token", "is missing: name a file that has it, such as file:/etc/fairlead/web.token")
			}
			r.require(v, met, "pool", "is missing: name the pool whose backends register")
		}
		x.Tokens = append(x.Tokens, t)
		x.pools = append(x.pools, pool)
	})
	if ok && len(v.Content) == 0 {
		r.fault(v, "is empty: list at least one, such as - {token: file:/etc/fairlead/web.token, pool: web}")
	}
}

// token reads a secret, which it never shows.
func (r *reader) token(v value, x *registration, p *string) {
	text, ok := r.text(v)
	if !ok {
		return
	}
	if fault := TokenFault(text); fault != "" {
		r.fault(v, "%s", fault)
		return
	}
	for i := range x.Tokens {
		if x.Tokens[i].Token == text {
			r.fault(v, "is the same as that of tokens[%d], so it would not say which pool is meant: use another", i)
			return
		}
	}
	*p = text
}

// TokenFault returns what is wrong with a token, which it does not show; "" if nothing
// is.
func TokenFault(text string) string {
	if len(text) < minToken {
		return fmt.Sprintf("is easily guessed: use at least %d characters, such as those of openssl rand -hex 32", minToken)
	}
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' {
			return "has blanks or more than ASCII in it: use letters, digits and signs, such as those of openssl rand -hex 32"
		}
	}
	return ""
}

// tokenSecret reads which secret has a token.
func (r *reader) tokenSecret(v value, x *registration, p *string) {
	r.secret(v, p)
	r.inVault = append(r.inVault, v)
	for i := range x.Tokens {
		if *p != "" && x.Tokens[i].Vault == *p {
			r.fault(v, "is that of tokens[%d], so its token would not say which pool is meant: use another", i)
			return
		}
	}
}

// backendNetworks reads where backends may be.
func (r *reader) backendNetworks(v value) (all []netip.Prefix) {
	ok := r.list(v, func(v value) {
		if p, ok := r.network(v); ok {
			all = append(all, p)
		}
	})
	if ok && len(v.Content) == 0 {
		r.fault(v, "is empty, so nobody could register: list at least one network, such as 10.0.0.0/8, or remove the key")
	}
	return all
}

// linkRegistration finds tokens for pools that are not there, and services where
// backends register.
func (r *reader) linkRegistration(s *model.State, x *registration, pools map[string]*service, services []service) {
	if x.Registration == nil {
		return
	}
	known := map[string]bool{}
	for i := range services {
		known[services[i].Name] = known[services[i].Name] || services[i].http.own
	}
	for _, v := range x.pools {
		if v.Node != nil && pools[v.Value] == nil && !known[v.Value] {
			r.fault(v, "there is no pool %s, nor a service of that name that lists backends: correct the name", quote(v.Value))
		}
	}
	s.Registration = x.Registration
}
