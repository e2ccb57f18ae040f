package daemon

import (
	"log/slog"

	"fairlead/userspace/httpproxy"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// A frontHTTP is what a front of an HTTP service has.
type frontHTTP struct {
	proxy *httpproxy.Proxy
	pool  func(name string) *httpproxy.Pool
	log   *slog.Logger
}

// use makes the routes of s decide where requests go from now on.
func (h *frontHTTP) use(s *model.Service) {
	t, err := httpproxy.NewTable(&s.HTTP, h.pool)
	if err != nil { // not of a configuration that was read
		h.log.Error("make routes", "service", s.Name, "err", err)
		return
	}
	h.proxy.Use(t)
}

// serves reports whether the front is of the kind that a service asks for.
func (f *front) serves(s *model.Service) bool {
	return (f.http != nil) == (s.Forward == model.ForwardHTTP)
}

func (h *frontHTTP) count(p *view.HTTP) {
	s := h.proxy.Stats()
	p.Accepted += s.Accepted
	p.Active += s.Active
	p.Denied += s.Denied
	p.SourceLimit += s.SourceLimit
	p.Requests += s.Requests
	p.Running += s.Running
	p.Broken += s.Broken
	p.NoBackend += s.NoBackend
	p.Retries += s.Retries
	p.Tunnels += s.Tunnels
	p.RateLimited += s.RateLimited
	p.Malformed += s.Malformed
	p.Unannounced += s.Unannounced
	p.Answers.Good += s.Answers[0]
	p.Answers.Elsewhere += s.Answers[1]
	p.Answers.Clients += s.Answers[2]
	p.Answers.Servers += s.Answers[3]
}
