package daemon

import (
	"cmp"
	"fmt"
	"slices"

	"fairlead/loader"
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
	changed, lost, err := a.followLinks(a.kernel.Instance())
	if a.news("links", err) {
		a.log.Warn("look at links", "err", err)
	}
	if lost != "" {
		a.loseKernel(fmt.Sprintf("interface %s lost its XDP program", lost), true)
		return
	}
	if changed {
		a.reconcile() // no event tells of it
	}
}

// followLinks notes which interfaces commands have taken out, or attached again,
// and reports whether there are any, and one that is not attached for another
// reason.
func (a *agent) followLinks(inst *loader.Instance) (changed bool, lost string, err error) {
	links, err := inst.Links()
	if err != nil {
		return false, "", err
	}
	out, err := inst.TakenOut()
	if err != nil {
		return false, "", err
	}
	for _, name := range a.interfaces(a.state) {
		at := slices.IndexFunc(links, func(l loader.LinkInfo) bool { return l.Index != 0 && l.Interface == name })
		switch attached := at >= 0; {
		case attached != a.out[name]: // as it was
		case attached:
			delete(a.out, name)
			changed = true
			a.attach.Interfaces = slices.DeleteFunc(a.attach.Interfaces, func(r loader.InterfaceReport) bool { return r.Name == name })
			a.attach.Interfaces = append(a.attach.Interfaces, loader.InterfaceReport{Name: name, Mode: links[at].Mode})
			a.log.Info("interface attached by a command", "interface", name)
		case slices.Contains(out, name):
			a.out[name], changed = true, true
			a.log.Info("interface taken out by a command", "interface", name)
		default:
			lost = cmp.Or(lost, name)
		}
	}
	return changed, lost, nil
}
