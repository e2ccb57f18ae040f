package datapath

import (
	"fmt"

	"fairlead/loader"
)

// read returns what the maps hold.
func read(m *loader.Maps) (*rows, error) {
	r := &rows{}
	var err error
	for _, step := range []struct {
		name string
		read func() error
	}{
		{"services", func() error { r.services, err = loader.ReadArray[loader.Service](m.Services); return err }},
		{"service_names", func() error { r.names, err = m.ReadServiceNames(); return err }},
		{"backends", func() error { r.backends, err = loader.ReadArray[loader.Backend](m.Backends); return err }},
		{"snat", func() error { r.snat, err = loader.ReadArray[loader.Address](m.Snat); return err }},
		{"listeners", func() error { r.listeners, err = listenersOf(m).read(); return err }},
		{"vips", func() error { r.vips, err = vipsOf(m).read(); return err }},
		{"devices", func() error { r.devices, err = loader.ReadHash[uint32, loader.Device](m.Devices); return err }},
		{"clients", func() error { r.clients, err = clientsOf(m).read(); return err }},
	} {
		if err := step.read(); err != nil {
			return nil, fmt.Errorf("read map %s: %w", step.name, err)
		}
	}
	slots := m.SlotsView()
	r.slots = make([]uint32, slots.Len())
	for i := range r.slots {
		r.slots[i] = slots.Load(i)
	}
	return r, nil
}
