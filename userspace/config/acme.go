package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"fairlead/userspace/model"
)

// Defaults of ACME.
const (
	defaultDirectory = "https://acme-v02.api.letsencrypt.org/directory"
	defaultStorage   = "/var/lib/fairlead/acme"
)

var challenges = []model.Challenge{model.ChallengeHTTP, model.ChallengeALPN}

// acme reads who gives certificates.
func (r *reader) acme(v value) *model.ACME {
	a := &model.ACME{Directory: defaultDirectory, Storage: defaultStorage, Challenges: challenges}
	before := len(r.faults)
	met := r.object(v, fields{
		"agree": func(v value) {
			var agreed bool
			if r.boolean(v, &agreed); v.Value == "false" {
				r.fault(v, "the authority gives nothing to who does not accept its terms: read them and set true, or remove acme")
			}
		},
		"directory": func(v value) {
			text, ok := r.text(v)
			u, err := url.Parse(text)
			if ok && (err != nil || u.Scheme != "https" || u.Host == "") {
				r.fault(v, "%s is not a URL of https: write it like %s", r.quoteURL(text), defaultDirectory)
			}
			a.Directory = text
		},
		"email": func(v value) { r.set(v, &a.Email) },
		"ca": func(v value) {
			if r.filePath(v, &a.CA) {
				r.authorities(v, a.CA)
			}
		},
		"storage":    func(v value) { r.filePath(v, &a.Storage) },
		"challenges": func(v value) { a.Challenges = r.challenges(v) },
	})
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "agree", "is missing: read the terms of the authority and set true")
	}
	return a
}

func (r *reader) challenges(v value) (all []model.Challenge) {
	ok := r.list(v, func(v value) {
		var c model.Challenge
		switch {
		case !enum(r, v, &c, challenges):
		case slices.Contains(all, c):
			r.fault(v, "%s stands in the list already: remove one of the two", c)
		default:
			all = append(all, c)
		}
	})
	if ok && len(v.Content) == 0 {
		r.fault(v, "is empty: list %s, or remove the key", oneOf(challenges))
	}
	return all
}

// acmeNames reads those of a service.
func (r *reader) acmeNames(v value, h *httpKeys) (all []string) {
	h.acme = v
	ok := r.list(v, func(v value) {
		var name string
		if !r.serverName(v, &name) {
			return
		}
		_, err := netip.ParseAddr(name)
		switch {
		case strings.HasPrefix(name, "*"):
			r.fault(v, "%s is for many names, which the authority gives only by way of DNS, which is not supported by this version: list the names", quote(name))
		case err == nil || !strings.Contains(name, "."):
			r.fault(v, "%s is not a name that the authority could look up: write it like www.example.com", quote(name))
		case slices.Contains(all, name):
			r.fault(v, "%s stands in the list already: remove one of the two", quote(name))
		default:
			all = append(all, name)
		}
	})
	if ok && len(v.Content) == 0 {
		r.fault(v, "is empty: list at least one name, such as www.example.com, or remove the key")
	}
	return all
}

// linkACME finds services whose certificates nobody gives. Nobody is asked for
// what no service wants.
func (r *reader) linkACME(state *model.State, services []service, a *model.ACME) {
	for i := range services {
		v := services[i].http.acme
		switch {
		case v.Node == nil:
		case a == nil:
			r.fault(v, "needs an authority: write acme: {agree: true} at the top of the file, if you accept its terms")
		default:
			state.ACME = a
		}
	}
}
