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
			r.metrics = v
			var err error
			if a.Metrics, err = Listener(s); err != nil {
				r.fault(v, "%s %v", quote(s), err)
			}
		},
	})
}

// Clashes reports whether a TCP service of this address and these ports would
// listen where the agent itself does, "address:port" or ":port".
func Clashes(metrics string, s *model.Service) bool {
	host, portText, err := net.SplitHostPort(metrics)
	if err != nil || s.Protocol != model.TCP {
		return false
	}
	port, _ := strconv.ParseUint(portText, 10, 16) // of a configuration that was read
	if uint16(port) < s.Listen.Port() || uint16(port) > s.LastPort {
		return false
	}
	own, err := netip.ParseAddr(host)
	return err != nil || own.IsUnspecified() || s.Listen.Addr().IsUnspecified() || own == s.Listen.Addr()
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
