package config

import (
	"path/filepath"

	"fairlead/userspace/model"
)

// stateOff in place of a directory keeps no state.
const stateOff = "off"

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
		"state-dir": func(v value) {
			if v.Value == stateOff {
				a.StateDir = stateOff
				return
			}
			path(&a.StateDir)(v)
		},
		"sandbox": func(v value) { enum(r, v, &a.Sandbox, []model.Sandbox{model.SandboxOn, model.SandboxOff}) },
		"metrics": func(v value) { r.listener(v, &a.Metrics, "where metrics are told, by agent.metrics") },
		"web":     func(v value) { r.listener(v, &a.Web, "where the page is, by agent.web") },
	})
}
