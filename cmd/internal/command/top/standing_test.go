package top

import (
	"testing"
	"time"

	"fairlead/cmd/internal/command/status"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/view"
)

// TestBackendsStandAsInStatus has a kernel in which a backend counts as up, or has
// no weight: the agent knows better.
func TestBackendsStandAsInStatus(t *testing.T) {
	for _, row := range []struct {
		inKernel    string
		told        view.Backend
		state, note string
	}{
		{"up", view.Backend{Weight: 1, Serves: true}, "down", "down, serves in panic"},
		{"drain", view.Backend{Weight: 1, Up: true, Backup: true}, "waits", "up, waits as backup"},
		{"drain", view.Backend{Weight: 1, Up: true, Zone: "west"}, "waits", "up, waits in zone west"},
		{"drain", view.Backend{Weight: 1, Up: true}, "waits", "up, waits: it is in no zone"},
		{"drain", view.Backend{Up: true}, "drain", ""},
	} {
		row.told.Address = "10.2.1.2:8080"
		told := view.Service{Listen: "203.0.113.10:80", Protocol: "tcp", Backends: []view.Backend{row.told}}
		have := datapath.ServiceView{Listen: told.Listen, Protocol: told.Protocol, Backends: []datapath.BackendView{{Address: row.told.Address, State: row.inKernel}}}
		for name, k := range map[string]*kernel.View{"with root": {View: datapath.View{Services: []datapath.ServiceView{have}}}, "without": nil} {
			s := newReading(&status.Status{Kernel: k, Services: []view.Service{told}}, nil, time.Now()).since(nil)
			if b := s.Services[0].Backends[0]; b.State != row.state || b.Note != row.note {
				t.Errorf("%+v, %s: %q, %q, want %q, %q", row.told, name, b.State, b.Note, row.state, row.note)
			}
		}
	}
}
