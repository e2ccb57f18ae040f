package config

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"

	"fairlead/userspace/model"
)

// process reads how the agent's process runs.
func (r *reader) process(v value, a *model.Agent) {
	path := func(p *string) func(value) {
		return func(v value) {
			s, ok := r.text(v)
			if ok && !filepath.IsAbs(s) {
				r.fault(v, "%s is not an absolute path: begin it with /", quote(s))
			}
			*p = s
		}
	}
	r.object(v, fields{
		"logging-file": path(&a.LogFile),
		"pin-dir":      path(&a.PinDir),
		"run-dir":      path(&a.RunDir),
		"metrics": func(v value) {
			s, ok := r.text(v)
			if !ok {
				return
			}
			var err error
			if a.Metrics, err = Listener(s); err != nil {
				r.fault(v, "%s %v", quote(s), err)
			}
		},
	})
}

var errListener = errors.New("is neither a port, an address and port, nor off: write it like 8080, 127.0.0.1:8080 or off")

// Listener reads where something of the agent's own listens: "8080" is that port of
// all addresses, returned as ":8080"; beside that there are "127.0.0.1:8080" and
// "off". The error goes on where a quotation of text ends.
func Listener(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	switch {
	case text == "off":
		return text, nil
	case err != nil:
		host, port = "", text
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errListener
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" {
		return "", errListener
	}
	return net.JoinHostPort(host, port), nil
}
