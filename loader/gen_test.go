package loader

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"

	"fairlead/testenv"
)

// TestKernelTakesTheObjects loads what is committed into the running kernel.
func TestKernelTakesTheObjects(t *testing.T) {
	testenv.RequireRoot(t)
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){"IPv4": LoadLB, "IPv6": LoadLB6} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := ebpf.NewCollection(spec)
		var refused *ebpf.VerifierError
		if errors.As(err, &refused) {
			t.Fatalf("%s: %+v", name, refused)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		loaded.Close()
	}
}
