package loader

import (
	"slices"
	"testing"
)

func TestInterfacesTakenOutAreKnown(t *testing.T) {
	b := newBench(t)
	want := func(names ...string) {
		t.Helper()
		i := b.open()
		if got, err := i.TakenOut(); err != nil || !slices.Equal(got, names) {
			t.Errorf("taken out: %q, %v, want %q", got, err, names)
		}
	}
	b.Do(t, func() error { return addVeth("d0.7") })
	all := Options{Interfaces: []string{"d0", "d0.7", "lo"}}
	b.attach(all, realProgram)
	want()
	b.detach("d0.7")
	want("d0.7")
	b.attach(Options{Interfaces: []string{"d0"}}, realProgram)
	want("d0.7")
	b.attach(all, realProgram)
	want()
	b.detach("lo")
	want("lo")
	b.attach(all, otherProgram)
	want()
	b.detach("d0", "lo")
	b.detach("d0.7")
	b.wantNothing()
}
