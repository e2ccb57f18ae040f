package config

import (
	"fairlead/userspace/model"
	"fairlead/userspace/peercred"
)

// admin reads who may change a running agent.
func (r *reader) admin(v value, a *model.Admin) {
	known := r.identityFields(&a.Write)
	known["readers"] = func(v value) { r.object(v, r.identityFields(&a.Read)) }
	known["listen"] = func(v value) { r.adminListen(v, &a.Listen) }
	known["cert"] = func(v value) { r.filePath(v, &a.Cert) }
	known["key"] = func(v value) { r.filePath(v, &a.Key) }
	known["client-ca"] = func(v value) {
		if r.filePath(v, &a.ClientCA) {
			r.authorities(v, a.ClientCA)
		}
	}
	before := len(r.faults)
	met := r.object(v, known)
	if _, ok := met["listen"]; !ok {
		r.refuseKeys(met, []string{"cert", "key", "client-ca"}, "belongs to listen, which is missing: remove one or give the other")
		return
	}
	r.require(v, met, "cert", "is missing: TCP is served with TLS only, name the file of the certificate, in PEM")
	r.require(v, met, "key", "is missing: TCP is served with TLS only, name the file of the certificate's key, in PEM")
	r.require(v, met, "client-ca", "is missing: name the file of the authorities whose certificates clients have, in PEM")
	if len(r.faults) == before {
		r.pair(met["cert"], model.Certificate{Cert: a.Cert, Key: a.Key})
	}
}

func (r *reader) adminListen(v value, p *string) {
	text, ok := r.text(v)
	if !ok {
		return
	}
	listen, err := Listener(text)
	switch {
	case err != nil:
		r.fault(v, "%s is not a port, nor address:port: write it like 10.0.0.1:9443", quote(text))
	case listen == "off":
		r.fault(v, "%s is not where to listen: remove the key", quote(text))
	}
	*p = listen
	r.own = append(r.own, ownListener{listen, "where the admin API is, by admin.listen", v})
}

// identityFields are the keys of callers.
func (r *reader) identityFields(i *model.Identities) fields {
	names := func(all *[]string, exists func(string) (uint32, error)) func(value) {
		return func(v value) {
			r.list(v, func(v value) {
				name, ok := r.text(v)
				if !ok {
					return
				}
				if exists != nil && r.look {
					if _, err := exists(name); err != nil {
						r.fault(v, "%v", err)
					}
				}
				*all = append(*all, name)
			})
		}
	}
	return fields{
		"users": names(&i.Users, peercred.User), "groups": names(&i.Groups, peercred.Group),
		"certificates": names(&i.Certificates, nil),
	}
}
