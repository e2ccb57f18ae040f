package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"fairlead/userspace/health"
	"fairlead/userspace/model"
)

// knownFile holds, in the run directory, what the last agent knew of checks that
// want it at the start. The kernel has it of what XDP forwards, but of nothing else.
const knownFile = "health.json"

// lastKnown says of checks, by the digests of their keys, whether they said up.
type lastKnown map[string]bool

// digestOf stands for a key in a file: keys have headers, and these may be secret.
func digestOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// wantsKnown reports whether a target begins as it was last known.
func wantsKnown(t health.Target) bool { return t.Check.Initial == model.InitialLast }

// readKnown returns what the last agent has kept, nil if there is nothing.
func (a *agent) readKnown() (all lastKnown) {
	if !slices.ContainsFunc(a.roster.targets, wantsKnown) {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(a.opts.RunDir, knownFile))
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if errors.Is(err, fs.ErrNotExist) && a.last != nil {
		return a.last.Checks // the host has started since
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Warn("read what was last known of backends", "err", err)
	}
	return all
}

// keepKnown keeps what is known of checks that want it after a restart.
func (a *agent) keepKnown() {
	all := lastKnown{}
	for _, t := range a.roster.targets {
		if !wantsKnown(t) {
			continue
		}
		if status, ok := a.checker.Status(t); ok && status.Known {
			all[digestOf(t.Key())] = status.Up
		}
	}
	a.checks.Store(&all)
	if len(all) == 0 {
		return
	}
	data, err := json.Marshal(all)
	if err == nil {
		err = writePrivate(filepath.Join(a.opts.RunDir, knownFile), data)
	}
	if a.news("known", err) {
		a.log.Warn("keep what is known of backends", "err", err)
	}
}
