package config

import (
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/http/httpguts"

	"fairlead/userspace/model"
)

var initials = []model.Initial{model.InitialUp, model.InitialDown, model.InitialLast}

// rhythmFields adds the keys that say when a check probes, and what counts before.
func (r *reader) rhythmFields(known fields, c *model.Check) {
	known["interval"] = func(v value) { r.duration(v, &c.Interval, minInterval, maxInterval) }
	known["fast-interval"] = func(v value) { r.duration(v, &c.FastInterval, minInterval, maxInterval) }
	known["jitter"] = func(v value) { r.duration(v, &c.Jitter, time.Millisecond, maxInterval/2) }
	known["timeout"] = func(v value) { r.duration(v, &c.Timeout, minInterval, maxInterval) }
	known["rise"] = func(v value) { r.number(v, &c.Rise, 1, maxCount) }
	known["fall"] = func(v value) { r.number(v, &c.Fall, 1, maxCount) }
	known["initial"] = func(v value) { enum(r, v, &c.Initial, initials) }
	known["agent"] = func(v value) { r.agent(v, &c.Agent) }
}

// rhythm fills in and checks how often and how long a probe runs.
func (r *reader) rhythm(met map[string]value, c *model.Check) {
	interval, hasInterval := met["interval"]
	if c.Rise == 0 {
		c.Rise = defaultRise
	}
	if c.Fall == 0 {
		c.Fall = defaultFall
	}
	if c.Interval == 0 {
		if hasInterval {
			return // a fault already
		}
		c.Interval = defaultInterval
	}
	if c.Timeout == 0 {
		c.Timeout = min(defaultTimeout, c.Interval)
	}
	switch {
	case c.Interval >= c.Timeout:
	case hasInterval:
		r.fault(interval, "%s is shorter than the timeout of %s: raise the interval or lower the timeout", span(c.Interval), span(c.Timeout))
	default:
		r.fault(met["timeout"], "%s is longer than the interval, %s by default: lower the timeout or set interval", span(c.Timeout), span(c.Interval))
	}
	if c.FastInterval > c.Interval {
		r.fault(met["fast-interval"], "%s is longer than the interval of %s: lower it", span(c.FastInterval), span(c.Interval))
	}
	if c.Jitter > c.Interval/2 {
		r.fault(met["jitter"], "%s is more than half of the interval of %s: lower it", span(c.Jitter), span(c.Interval))
	}
	if c.Agent.Port != 0 && c.Agent.Interval == 0 {
		c.Agent.Interval = c.Interval
	}
}

// agent reads where backends say themselves how they are.
func (r *reader) agent(v value, a *model.AgentCheck) {
	a.Timeout = defaultTimeout
	met := r.object(v, fields{
		"port": func(v value) {
			if s, ok := r.text(v); ok {
				a.Port, _ = r.port(v, s, s)
			}
		},
		"interval": func(v value) { r.duration(v, &a.Interval, minInterval, maxInterval) },
		"timeout":  func(v value) { r.duration(v, &a.Timeout, minInterval, maxInterval) },
		"send":     func(v value) { r.set(v, &a.Send) },
	})
	r.require(v, met, "port", "is missing: give the port of the backends' agents")
}

// method reads what a check asks with.
func (r *reader) method(v value, p *string) {
	s, ok := r.text(v)
	if ok && (!httpguts.ValidHeaderFieldName(s) || s == "CONNECT") {
		r.fault(v, "%s is not a method for checks: write it like GET, HEAD or OPTIONS", quote(s))
		return
	}
	*p = s
}

// healthy reads one status or range, or a list of them.
func (r *reader) healthy(v value, all *[]model.StatusRange) {
	if v.Kind != yaml.SequenceNode {
		r.status(v, all)
		return
	}
	r.list(v, func(v value) { r.status(v, all) })
	if len(v.Content) == 0 {
		r.fault(v, "is empty: list at least one status, such as 204 or 200-399")
	}
}

var statusSyntax = regexp.MustCompile(`^([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?$`)

func (r *reader) status(v value, all *[]model.StatusRange) {
	s, ok := r.text(v)
	if !ok {
		return
	}
	m := statusSyntax.FindStringSubmatch(s)
	if m == nil || m[2] != "" && m[2] < m[1] {
		r.fault(v, "%s is neither a status nor a range: write it like 204 or 200-399", quote(s))
		return
	}
	var x model.StatusRange
	x.Min, _ = strconv.Atoi(m[1]) // digits by the expression
	x.Max = x.Min
	if m[2] != "" {
		x.Max, _ = strconv.Atoi(m[2])
	}
	*all = append(*all, x)
}
