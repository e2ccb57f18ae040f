package config

import (
	"time"

	"fairlead/userspace/model"
)

const defaultHeaderTime = 3 * time.Second // that a PROXY header takes

// acceptProxy reads who says by the PROXY protocol whom connections are of.
func (r *reader) acceptProxy(v value, s *service) {
	a := &s.AcceptProxy
	a.Timeout = defaultHeaderTime
	before := len(r.faults)
	met := r.object(v, fields{
		"from": func(v value) {
			ok := r.list(v, func(v value) {
				if p, ok := r.network(v); ok {
					a.From = append(a.From, p)
				}
			})
			if ok && len(v.Content) == 0 {
				r.fault(v, "is empty, so nobody would be asked: list the networks of the proxies, such as 10.0.0.0/8")
			}
		},
		"timeout": func(v value) { r.duration(v, &a.Timeout, minTime, maxInterval) },
	})
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "from", "is missing: list the networks of the proxies that send PROXY headers, such as 10.0.0.0/8")
	}
}

// acceptBelongs finds PROXY headers of services that have no connections.
func (r *reader) acceptBelongs(met map[string]value, s *service) {
	if v, has := met["accept-proxy"]; has && s.Protocol == model.UDP {
		r.fault(v, "does not belong to a UDP service: remove it")
	}
}

// sendBelongs finds PROXY headers to backends that could not have them, and lets
// checks send them.
func (r *reader) sendBelongs(met map[string]value, s *service) {
	v, has := met["send-proxy"]
	switch {
	case !has:
	case s.Protocol == model.UDP:
		r.fault(v, "does not belong to a UDP service: remove it")
	case s.http.pool.HTTP2:
		r.fault(v, "stands beside http2, whose connections several clients share: remove one of the two")
	case s.Health.Port == 0:
		s.Health.SendProxy = s.SendProxy
	}
}
