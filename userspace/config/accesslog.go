package config

import (
	"errors"
	"path/filepath"

	"fairlead/userspace/accesslog"
	"fairlead/userspace/logfile"
	"fairlead/userspace/model"
)

// maxSample is of how many flows one may be told.
const maxSample = 1_000_000

// accessLog reads where requests and connections are logged.
func (r *reader) accessLog(v value) (a model.AccessLog) {
	a.Format = accesslog.JSON
	before := len(r.faults)
	met := r.object(v, fields{
		"file": func(v value) { r.logPath(v, &a.File) },
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

// flowLog reads where flows of the kernel are logged.
func (r *reader) flowLog(v value) (f model.FlowLog) {
	f.Sample = 1
	before := len(r.faults)
	met := r.object(v, fields{
		"file":   func(v value) { r.logPath(v, &f.File) },
		"sample": func(v value) { r.number(v, &f.Sample, 1, maxSample) },
	})
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "file", "is missing: give a path, such as /var/log/fairlead/flows.log")
	}
	return f
}

// logPath reads where a log is written.
func (r *reader) logPath(v value, p *string) {
	if !r.absolute(v, p) || !r.look {
		return
	}
	switch err := logfile.Check(*p); {
	case errors.Is(err, logfile.ErrKind):
		r.fault(v, "cannot be written: %v", err)
	case err != nil:
		r.fault(v, "cannot be written: %v: make the directory, or name another file", err)
	}
}

// absolute reads a path, and reports whether it is a good one.
func (r *reader) absolute(v value, p *string) bool {
	s, ok := r.text(v)
	if *p = s; ok && !filepath.IsAbs(s) {
		r.fault(v, "%s is not an absolute path: begin it with /", quote(s))
		return false
	}
	return ok
}
