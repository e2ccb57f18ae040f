package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fairlead/loader"
	"fairlead/userspace/config"
	"fairlead/userspace/sandbox"
)

// sandboxedEnv is set in a sandbox: whoever is started in it, as by a handover, cannot
// get out, and needs no second one.
const sandboxedEnv = "FAIRLEAD_SANDBOXED"

// enterSandbox gives up what the agent does not need after its start.
func (a *agent) enterSandbox() {
	if os.Getenv(sandboxedEnv) != "" {
		return
	}
	p := a.paths()
	if err := sandbox.Enter(p); err != nil {
		a.log.Warn("sandbox has a hole", "err", err)
	} else {
		a.log.Info("sandboxed: other files than these need a restart", "read", p.Read, "write", p.Write)
	}
	_ = os.Setenv(sandboxedEnv, "1") // fails for bad names only
}

// paths returns the files that the agent, and the commands that it runs, may need: those
// of the system, those of the configuration with what is beside them, and its own.
func (a *agent) paths() sandbox.Paths {
	p := sandbox.Paths{
		Read: []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/etc", "/proc", "/sys", "/dev/urandom", "/dev/zero"},
		Write: []string{
			a.opts.RunDir, loader.RunDir, filepath.Dir(a.opts.PinDir), "/var/lib/fairlead", "/var/log/fairlead",
			"/dev/null", "/proc/sys/net", "/tmp", "/var/tmp",
		},
	}
	own, _ := os.Executable()
	resolver, _ := filepath.EvalSymlinks("/etc/resolv.conf")
	for _, name := range append(a.named(), own, resolver) {
		p.Read = append(p.Read, around(name)...)
	}
	if filepath.IsAbs(a.opts.StateDir) {
		p.Write = append(p.Write, a.opts.StateDir)
	}
	for _, name := range a.opts.Written {
		p.Write = append(p.Write, around(name)...)
	}
	for _, name := range []string{a.state.AccessLog.File, a.state.FlowLog.File} {
		p.Write = append(p.Write, around(name)...) // nothing around none
	}
	if acme := a.state.ACME; acme != nil {
		p.Write = append(p.Write, acme.Storage)
	}
	p.Read = slices.Compact(slices.Sorted(slices.Values(p.Read)))
	p.Write = slices.Compact(slices.Sorted(slices.Values(p.Write)))
	return p
}

// named returns the files that the configuration names to be read or run.
func (a *agent) named() []string {
	names := append([]string(nil), a.safe.files...) // all there is without a file
	for _, t := range []*config.Tree{a.plane.file.Load().tree, a.plane.inForce().tree} {
		for _, name := range t.Files() {
			path, _ := filepath.Abs(name)
			names = append(names, path)
		}
	}
	for _, n := range a.state.Notify {
		names = append(names, n.Command...)
	}
	for _, t := range a.roster.targets {
		names = append(names, t.Check.Command...)
	}
	return names
}

// around returns the directories whose files are replaced together with a file: its own
// and, if it is a link, that of what it leads to. Of one in the root directory it is the
// file alone. Relative names are arguments of commands.
func around(name string) (paths []string) {
	real, _ := filepath.EvalSymlinks(name)
	for _, path := range []string{name, real} {
		if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
			continue
		}
		dir := filepath.Dir(path)
		for strings.ContainsAny(dir, `*?[`) {
			dir = filepath.Dir(dir)
		}
		if dir == "/" {
			dir = path
		}
		paths = append(paths, dir)
	}
	return paths
}
