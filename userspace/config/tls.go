package config

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"fairlead/userspace/certs"
	"fairlead/userspace/model"
)

// Bounds and defaults of TLS.
const (
	httpsPort   = 443
	maxAge      = 2 * 365 * 24 * time.Hour
	defaultHSTS = 365 * 24 * time.Hour
)

// tls reads how a service ends TLS.
func (r *reader) tls(v value, h *httpKeys) {
	t := &model.TLS{MinVersion: tls.VersionTLS12}
	before := len(r.faults)
	met := r.object(v, fields{
		"certificates": func(v value) { t.Certificates = r.certificates(v, h) },
		"acme":         func(v value) { t.ACME = r.acmeNames(v, h) },
		"min-version":  func(v value) { r.tlsVersion(v, &t.MinVersion) },
		"client-ca": func(v value) {
			if r.filePath(v, &t.ClientCA) {
				r.authorities(v, t.ClientCA)
			}
		},
		"client-auth": func(v value) {
			enum(r, v, &t.ClientAuth, []model.ClientAuth{model.ClientRequired, model.ClientOptional})
		},
		"hsts": func(v value) { r.hsts(v, h) },
	})
	h.http.TLS = t
	if len(met) == 0 && len(r.faults) > before {
		return
	}
	if _, ok := met["acme"]; !ok {
		r.require(v, met, "certificates", "is missing: list at least one, such as - {cert: /etc/fairlead/site.pem, key: /etc/fairlead/site.key}")
	}
	auth, hasAuth := met["client-auth"]
	switch _, hasCA := met["client-ca"]; {
	case hasAuth && !hasCA:
		r.fault(auth, "needs authorities to go by: name their file in client-ca")
	case hasCA && !hasAuth:
		t.ClientAuth = model.ClientRequired
	}
}

func (r *reader) certificates(v value, h *httpKeys) (all []model.Certificate) {
	ok := r.list(v, func(v value) {
		var c model.Certificate
		if r.certificate(v, &c, h) {
			all = append(all, c)
		}
	})
	if ok && len(v.Content) == 0 {
		r.fault(v, "is empty: list at least one, such as - {cert: /etc/fairlead/site.pem, key: /etc/fairlead/site.key}")
	}
	return all
}

// certificate reads the names of two files.
func (r *reader) certificate(v value, c *model.Certificate, h *httpKeys) bool {
	before := len(r.faults)
	met := r.object(v, fields{
		"cert":  func(v value) { r.filePath(v, &c.Cert) },
		"key":   func(v value) { r.filePath(v, &c.Key) },
		"vault": func(v value) { r.secret(v, &c.Vault) },
	})
	if at, ok := met["vault"]; ok {
		r.refuseKeys(met, []string{"cert", "key"}, "stands beside vault, whose secret has both: remove one of the two")
		h.secrets = append(h.secrets, at)
		return len(r.faults) == before
	}
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "cert", "is missing: name the file of the certificate, in PEM")
		r.require(v, met, "key", "is missing: name the file of the certificate's key, in PEM")
	}
	return len(r.faults) == before && r.pair(v, *c)
}

// pair finds what is wrong with the files of a certificate.
func (r *reader) pair(v value, c model.Certificate) bool {
	if !r.look {
		return true
	}
	_, err := certs.Read(c)
	if err != nil {
		r.fault(v, "%v", err)
	}
	return err == nil
}

// authorities finds what is wrong with a file of them.
func (r *reader) authorities(v value, file string) {
	if !r.look {
		return
	}
	if _, err := certs.ReadPool(file); err != nil {
		r.fault(v, "%v", err)
	}
}

// filePath reads the name of a file, from the directory of the configuration.
func (r *reader) filePath(v value, p *string) bool {
	text, ok := r.text(v)
	if ok {
		text = r.beside(text)
	}
	*p = text
	return ok
}

func (r *reader) tlsVersion(v value, p *uint16) {
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	text, ok := r.text(v)
	if ok && versions[text] == 0 {
		r.fault(v, "%s is not a version that is safe: use 1.2 or 1.3", quote(text))
		return
	}
	*p = versions[text]
}

// hsts reads for how long browsers shall come with TLS only.
func (r *reader) hsts(v value, h *httpKeys) {
	age, sub, preload := defaultHSTS, false, false
	r.object(v, fields{
		"max-age":            func(v value) { r.duration(v, &age, 0, maxAge) },
		"include-subdomains": func(v value) { r.boolean(v, &sub) },
		"preload":            func(v value) { r.boolean(v, &preload) },
	})
	h.hsts = fmt.Sprintf("max-age=%d", int(age.Seconds()))
	if sub {
		h.hsts += "; includeSubDomains"
	}
	if preload {
		h.hsts += "; preload"
	}
}

// redirectHTTPS reads true, false or a port.
func (r *reader) redirectHTTPS(v value, h *httpKeys) {
	text, ok := r.text(v)
	switch {
	case !ok || text == "false":
	case text == "true":
		h.redirect = httpsPort
	default:
		h.redirect, _ = r.port(v, text, text)
	}
}

// secured finds what is said of TLS where no backend has it, unless it is said for all
// by default: the wrong backends would be trusted, and be sent what is not for all to see.
func (r *reader) secured(met map[string]value, s *service) {
	at, ok := met["backend-tls"]
	if !ok || s.Forward != model.ForwardHTTP || len(s.Backends) == 0 || r.defaults.Node != nil && slices.Contains(r.defaults.Content, at.Node) {
		return
	}
	if !slices.ContainsFunc(s.Backends, func(b model.Backend) bool { return b.Origin.TLS }) {
		r.fault(at, "no backend has a URL with https, so that all are spoken to without TLS: write them like url: https://10.0.0.1, or remove it")
	}
}

// backendTLS reads how the backends of a pool show who they are.
func (r *reader) backendTLS(v value, t *model.BackendTLS) {
	before := len(r.faults)
	met := r.object(v, fields{
		"ca": func(v value) {
			if r.filePath(v, &t.CA) {
				r.authorities(v, t.CA)
			}
		},
		"server-name": func(v value) {
			s, ok := r.text(v)
			if ok && (!httpguts.ValidHostHeader(s) || strings.ContainsAny(s, ":/")) {
				r.fault(v, "%s is not a host name: write it like www.example.com", quote(s))
			}
			t.ServerName = s
		},
		"cert":        func(v value) { r.filePath(v, &t.Certificate.Cert) },
		"key":         func(v value) { r.filePath(v, &t.Certificate.Key) },
		"skip-verify": func(v value) { r.boolean(v, &t.SkipVerify) },
	})
	cert, hasCert := met["cert"]
	key, hasKey := met["key"]
	switch {
	case hasCert && !hasKey:
		r.fault(cert, "stands without a key: name the certificate's key, too")
	case hasKey && !hasCert:
		r.fault(key, "stands without a cert: name the certificate of the key, too")
	case hasCert && len(r.faults) == before:
		r.pair(cert, t.Certificate)
	}
	if ca, ok := met["ca"]; ok && t.SkipVerify {
		r.fault(ca, "is of no effect beside skip-verify: remove one of the two")
	}
}
