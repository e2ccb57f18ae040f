package config

import (
	"path/filepath"
	"strings"

	"fairlead/userspace/model"
)

// What stands in place of the directory of the state: stateOff keeps none, and what
// follows stateVault names a place in a KV store.
const (
	stateOff   = "off"
	stateVault = "vault:"
)

// StateInVault returns mount/path of a state that is to be in a KV store, and whether
// it is.
func StateInVault(stateDir string) (path string, ok bool) {
	return strings.CutPrefix(stateDir, stateVault)
}

// StateDirFault returns what is wrong with where the state is to be, "" if nothing is.
func StateDirFault(text string) string {
	path, inVault := StateInVault(text)
	switch {
	case text == stateOff || inVault && isSecretPath(path):
	case inVault:
		return quote(text) + " is not a place in a KV store: write its mount and a path, such as vault:secret/fairlead"
	case !filepath.IsAbs(text):
		return quote(text) + " is not an absolute path: begin it with /, or with vault: for a KV store"
	}
	return ""
}

// process reads how the agent's process runs.
func (r *reader) process(v value, a *model.Agent) {
	r.object(v, fields{
		"logging-file": func(v value) { r.logPath(v, &a.LogFile) },
		"pin-dir":      func(v value) { r.absolute(v, &a.PinDir) },
		"run-dir":      func(v value) { r.absolute(v, &a.RunDir) },
		"state-dir":    func(v value) { r.stateDir(v, &a.StateDir) },
		"sandbox":      func(v value) { enum(r, v, &a.Sandbox, []model.Sandbox{model.SandboxOn, model.SandboxOff}) },
		"metrics":      func(v value) { r.listener(v, &a.Metrics, "where metrics are told, by agent.metrics") },
		"web":          func(v value) { r.listener(v, &a.Web, "where the page is, by agent.web") },
	})
}

// stateDir reads where the state is.
func (r *reader) stateDir(v value, p *string) {
	s, ok := r.text(v)
	if !ok {
		return
	}
	if fault := StateDirFault(s); fault != "" {
		r.fault(v, "%s", fault)
		return
	}
	if _, inVault := StateInVault(s); inVault {
		r.inVault = append(r.inVault, v)
	}
	*p = s
}
