package daemon

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"fairlead/userspace/certs"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// A certificate that ends sooner than this is named in the log, once a day.
const expirySoon = 14 * 24 * time.Hour

// A safe holds what is read from the files that a state names. It does not
// change.
type safe struct {
	sets    map[model.Key]*certs.Set // of services with TLS
	clients map[string]*tls.Config   // of pools whose backends have it
	files   []string
	managed []string // names whose certificates come over ACME
}

// openSafe reads the files of a state. Where one is bad, that of old stays, which
// may be nil; if it has none, there is no safe but an error. Each error names its
// service or pool.
func openSafe(state *model.State, old *safe, from certs.Sources) (*safe, error) {
	if old == nil {
		old = &safe{}
	}
	s := &safe{sets: map[model.Key]*certs.Set{}, clients: map[string]*tls.Config{}}
	whole := true
	var errs []error
	for i := range state.Services {
		x := &state.Services[i]
		if x.HTTP.TLS == nil {
			continue
		}
		set, err := certs.Load(x.HTTP.TLS, old.sets[x.Key()], from)
		if err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", x.Name, err))
		}
		s.sets[x.Key()], whole = set, whole && set != nil
		for _, c := range x.HTTP.TLS.Certificates {
			s.name(c.Cert, c.Key)
		}
		s.name(x.HTTP.TLS.ClientCA)
		s.managed = append(s.managed, x.HTTP.TLS.ACME...)
	}
	for i := range state.Pools {
		p := &state.Pools[i]
		if p.TLS == (model.BackendTLS{}) {
			continue
		}
		client, err := certs.Client(&p.TLS, old.clients[p.Name])
		if err != nil {
			errs = append(errs, fmt.Errorf("pool %s: %w", p.Name, err))
			client = old.clients[p.Name]
		}
		s.clients[p.Name], whole = client, whole && client != nil
		s.name(p.TLS.CA, p.TLS.Certificate.Cert, p.TLS.Certificate.Key)
	}
	if !whole {
		return nil, errors.Join(errs...)
	}
	return s, errors.Join(errs...)
}

func (s *safe) name(files ...string) {
	for _, f := range files {
		if f != "" && !slices.Contains(s.files, f) {
			s.files = append(s.files, f)
		}
	}
}

// certificates returns those of a service of the state in force, nil if it is one
// without TLS.
func (a *agent) certificates(key model.Key) *certs.Set { return a.safe.sets[key] }

// useSafe has the files of the safe watched, and its names managed; the fronts are
// there by now.
func (a *agent) useSafe() {
	a.watchFiles()
	a.certError, a.expiryTold = "", time.Time{}
	if m := a.issuer.Load(); m != nil {
		if err := m.Manage(a.safe.managed); a.news("acme", err) {
			a.log.Error("manage certificates", "err", err)
		}
	}
}

// watchFiles has those watched that are read again when they change.
func (a *agent) watchFiles() { a.files.Watch(slices.Concat(a.safe.files, a.desk.outlet.paths())) }

// rereadFiles takes over what has changed in the files of the safe.
func (a *agent) rereadFiles() {
	t := a.trove()
	fresh, err := openSafe(a.state, a.safe, t.sources())
	a.certError = ""
	if err != nil {
		a.certError = err.Error()
	}
	if a.news("files", err) {
		a.log.Error("certificate not taken, the old one stays", "err", err)
	}
	if fresh == nil {
		return // not to be: a.safe has all
	}
	old := a.safe
	a.safe = fresh
	for i := range a.state.Services {
		s := &a.state.Services[i]
		set, f := fresh.sets[s.Key()], a.fronts[s.Key()]
		if set == nil || f == nil || set.Equal(old.sets[s.Key()]) {
			continue
		}
		f.http.shown.Store(set)
		a.log.Info("certificates taken", "service", s.Name)
		a.expiryTold = time.Time{}
	}
	for name, p := range a.pools {
		p.http.UseTLS(fresh.clients[name])
	}
}

// tellExpiry names certificates that end soon.
func (a *agent) tellExpiry(now time.Time) {
	if now.Sub(a.expiryTold) < 24*time.Hour {
		return
	}
	a.expiryTold = now
	for i := range a.state.Services {
		s := &a.state.Services[i]
		for _, c := range a.certificateViews(s) {
			switch {
			case c.NotAfter.IsZero():
			case !now.Before(c.NotAfter):
				a.log.Error("certificate has expired", "service", s.Name, "file", c.File, "not-after", c.NotAfter)
			case now.Add(expirySoon).After(c.NotAfter):
				a.log.Warn("certificate expires soon", "service", s.Name, "file", c.File, "not-after", c.NotAfter)
			}
		}
	}
}

// certificateViews returns the certificates of a service, in the order of the
// configuration.
func (a *agent) certificateViews(s *model.Service) (all []view.Certificate) {
	set := a.certificates(s.Key())
	if set == nil {
		return nil
	}
	for _, c := range set.Certificates() {
		all = append(all, view.Certificate{File: c.File, Names: c.Names, Issuer: c.Issuer, NotAfter: c.NotAfter})
	}
	return all
}
