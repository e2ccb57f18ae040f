package daemon

import (
	"fmt"
	"slices"

	"fairlead/userspace/model"
)

// takenOut is what the view says of an interface that a command has taken out.
const takenOut = "taken out by loader detach: attach again, or send SIGHUP to the agent"

// wanted are the interfaces of a state, but for those that a command has taken
// out.
func (a *agent) wanted(state *model.State) []string {
	return slices.DeleteFunc(slices.Clone(a.interfaces(state)), func(name string) bool { return a.out[name] })
}

// watchLinks finds out whether every interface is attached that should be. One
// that a command has taken out is left alone until somebody attaches it again.
func (a *agent) watchLinks() {
	attached, out, err := a.lookAtLinks()
	if err != nil {
		if a.news("links", err) {
			a.log.Warn("look at links", "err", err)
		}
		return
	}
	changed := false
	for _, name := range a.interfaces(a.state) {
		if attached[name] != a.out[name] {
			continue // as it was
		}
		if !attached[name] && !out[name] {
			a.loseKernel(fmt.Sprintf("interface %s lost its XDP program", name), true)
			return
		}
		changed = true
		if attached[name] {
			delete(a.out, name)
			a.log.Info("interface attached by a command", "interface", name)
		} else {
			a.out[name] = true
			a.log.Info("interface taken out by a command", "interface", name)
		}
	}
	if changed {
		a.reconcile() // no event tells of it
	}
}

// lookAtLinks returns which interfaces are attached, and which a command has
// taken out.
func (a *agent) lookAtLinks() (attached, out map[string]bool, err error) {
	links, err := a.kernel.Instance().Links()
	if err != nil {
		return nil, nil, err
	}
	names, err := a.kernel.Instance().TakenOut()
	if err != nil {
		return nil, nil, err
	}
	attached, out = map[string]bool{}, map[string]bool{}
	for _, l := range links {
		if l.Index != 0 {
			attached[l.Interface] = true
		}
	}
	for _, name := range names {
		out[name] = true
	}
	return attached, out, nil
}
