// Package health probes backends and says which of them are up.
//
// A [Checker] makes one check per distinct backend address and check, however
// many services share it. It judges what it is given and tells of changes; it
// knows neither services nor the kernel, and moves no traffic itself.
package health

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"fairlead/userspace/latency"
	"fairlead/userspace/model"
)

// A Target is a backend and how to judge it.
type Target struct {
	// Address is where the backend listens. Its port is probed unless the
	// check has one of its own.
	Address netip.AddrPort
	// Check says how to judge it. What is zero in it has the default.
	Check model.Check
}

// Key returns the same string for targets that need only one check, and
// another one for all others.
func (t Target) Key() string {
	t = t.normal()
	return fmt.Sprintf("%v %#v", t.Address, t.Check)
}

// normal returns t with its defaults filled in and all that does not matter
// made the same.
func (t Target) normal() Target {
	t.Address = netip.AddrPortFrom(t.Address.Addr().Unmap(), cmp.Or(t.Check.Port, t.Address.Port()))
	c := &t.Check
	c.Port = 0
	c.Type = cmp.Or(c.Type, model.CheckNone)
	c.Interval = cmp.Or(max(c.Interval, 0), 2*time.Second)
	c.Timeout = min(cmp.Or(max(c.Timeout, 0), time.Second), c.Interval)
	c.Rise = max(c.Rise, 1)
	c.Fall = max(c.Fall, 1)
	if len(c.Statuses) == 0 {
		c.Statuses = []model.StatusRange{{Min: 200, Max: 399}}
	}
	c.Method = cmp.Or(c.Method, http.MethodGet)
	c.Jitter = min(c.Jitter, c.Interval/2)
	c.FastInterval = cmp.Or(c.FastInterval, c.Interval)
	if c.Agent.Port == 0 {
		c.Agent = model.AgentCheck{}
	} else {
		c.Agent.Interval = cmp.Or(max(c.Agent.Interval, 0), c.Interval)
		c.Agent.Timeout = cmp.Or(max(c.Agent.Timeout, 0), time.Second)
	}
	c.Path = cmp.Or(c.Path, "/")
	c.Query = cmp.Or(c.Query, ".")
	if len(c.Headers) == 0 {
		c.Headers = nil
	}
	if len(c.Command) == 0 {
		c.Command = nil
	}
	return t
}

// A Status is what is known of a target.
type Status struct {
	// Up says that the target counts as up. One that was never probed does.
	Up bool
	// Known says that Up comes from a probe, or from what was adopted.
	Known bool
	// Since is when Up changed last, or when the target was added; see
	// [Checker.Recall].
	Since time.Time
	// LastProbe is when the last probe that has a result began.
	LastProbe time.Time
	// Duration is how long that probe took.
	Duration time.Duration
	// Response is how long probes that succeed take, smoothed: each new one
	// moves it by an eighth of what it is off. 0 before the first.
	Response time.Duration
	// LastError says why it failed, "" if it did not.
	LastError string
	// Rise and Fall count the successes or failures in a row; one of them
	// is 0.
	Rise, Fall int
	// Successes and Failures count all results.
	Successes, Failures uint64
	// Word is the target's own, beside its probes; Weight is 100 if it has said
	// nothing.
	Word Word
}

// A Past is what a target was before a [Checker] had it, and since when.
type Past struct {
	Up    bool
	Since time.Time
}

// Probes are all that a target has had.
type Probes struct {
	Successes, Failures uint64
	// Latency is of both, from the beginning of the probe.
	Latency *latency.Recorder
}

// Serves reports whether the target may serve, by probes and by its own word.
func (s *Status) Serves() bool { return s.Up && !s.Word.Out() }

// turning reports whether the last results go against what the target counts as.
func (s *Status) turning() bool { return s.Known && (s.Up && s.Fall > 0 || !s.Up && s.Rise > 0) }

// count adds the result of one probe and judges.
func (s *Status) count(check model.Check, start time.Time, err error) {
	s.LastProbe, s.Duration = start, time.Since(start)
	if err == nil {
		s.Successes++
		s.Response += (s.Duration - s.Response) / 8
		if s.Successes == 1 {
			s.Response = s.Duration
		}
		s.Rise, s.Fall, s.LastError = s.Rise+1, 0, ""
	} else {
		s.Failures++
		s.Rise, s.Fall, s.LastError = 0, s.Fall+1, err.Error()
	}
	up := s.Up
	switch {
	case !s.Known:
		up = err == nil
	case s.Rise >= check.Rise:
		up = true
	case s.Fall >= check.Fall:
		up = false
	}
	if up != s.Up {
		s.Since = time.Now()
	}
	s.Up, s.Known = up, true
}
