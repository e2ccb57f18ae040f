package loader

import (
	"testing"

	"github.com/cilium/ebpf"

	"fairlead/testenv"
)

// TestOldMode reads the switch of a control map of another size.
func TestOldMode(t *testing.T) {
	testenv.RequireRoot(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 12, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for raw, want := range map[uint32]Mode{0: ModeOff, 1: ModeDraining, 2: ModeOn, 77: ModeOn} {
		if err := m.Put(uint32(0), [3]uint32{raw, 5, 6}); err != nil {
			t.Fatal(err)
		}
		if got := oldMode(m); got != want {
			t.Errorf("the switch %d is mode %d, want %d", raw, got, want)
		}
	}
}
