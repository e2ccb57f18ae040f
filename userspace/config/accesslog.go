package config

import (
	"path/filepath"

	"fairlead/userspace/accesslog"
	"fairlead/userspace/model"
)

// accessLog reads where requests and connections are logged.
func (r *reader) accessLog(v value) (a model.AccessLog) {
	a.Format = accesslog.JSON
	before := len(r.faults)
	met := r.object(v, fields{
		"file": func(v value) {
			s, ok := r.text(v)
			if ok && !filepath.IsAbs(s) {
				r.fault(v, "%s is not an absolute path: begin it with /", quote(s))
			}
			a.File = s
		},
		"format": func(v value) {
			s, ok := r.text(v)
			if !ok {
				return
			}
			if _, err := accesslog.ParseFormat(s); err != nil {
				r.fault(v, "%s %v", quote(s), err)
			}
			a.Format = s
		},
	})
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "file", "is missing: give a path, such as /var/log/fairlead/access.log")
	}
	return a
}
