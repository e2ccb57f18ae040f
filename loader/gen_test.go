package loader

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"

	"fairlead/testenv"
)

// TestKernelTakesTheObject loads what is committed into the running kernel.
func TestKernelTakesTheObject(t *testing.T) {
	testenv.RequireRoot(t)
	var objs LBObjects
	err := LoadLBObjects(&objs, nil)
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) {
		t.Fatalf("%+v", refused)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := objs.Close(); err != nil {
		t.Error(err)
	}
}
