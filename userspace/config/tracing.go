package config

import (
	"net/url"

	"fairlead/userspace/model"
)

// tracing reads where spans are sent.
func (r *reader) tracing(v value) (t model.Tracing) {
	t.Sample = 1
	before := len(r.faults)
	met := r.object(v, fields{
		"endpoint": func(v value) {
			s, ok := r.text(v)
			if !ok {
				return
			}
			if u, err := url.Parse(s); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
				r.fault(v, "%s is not a URL of a collector: write it like http://127.0.0.1:4318", quote(s))
			}
			t.Endpoint = s
		},
		"sample": func(v value) { r.number(v, &t.Sample, 1, maxSample) },
	})
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "endpoint", "is missing: give the URL of a collector, such as http://127.0.0.1:4318")
	}
	return t
}
