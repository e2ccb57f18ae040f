package kernel

import (
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
)

// Health returns what the instance pinned in dir knows of the health of each
// backend of each service of state, by index; nil if there is no instance.
func Health(dir string, state *model.State) ([][]datapath.Health, error) {
	w, err := pinned(dir)
	if err != nil || w == nil {
		return nil, err
	}
	return w.Health(state), nil
}

// SetHealth makes the maps hold another health: down says which backends of a
// service are down, by index. Everything else in them stays.
func (k *Kernel) SetHealth(state *model.State, down func(*model.Service) []bool) error {
	want := k.writer.Keep(state)
	for i := range want.Services {
		want.Services[i].Down = down(&want.Services[i].Service)
	}
	_, err := k.writer.Reconcile(want)
	return err
}
