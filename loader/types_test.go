package loader

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// TestEveryVerdictHasItsName compares the names with the enumerators that the
// compiled object holds: "FORWARD_TX" must be called "forward_tx".
func TestEveryVerdictHasItsName(t *testing.T) {
	spec, err := LoadLB()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName("verdict", &enum); err != nil {
		t.Fatal(err)
	}
	for _, v := range enum.Values {
		if v.Name == "VERDICT_MAX" {
			continue
		}
		verdict := Verdict(v.Value)
		if got, want := verdict.String(), strings.ToLower(v.Name); got != want {
			t.Errorf("verdict %d is called %q, want %q", v.Value, got, want)
		}
	}
	if got, want := len(enum.Values), int(Verdicts)+1; got != want {
		t.Errorf("the object has %d verdicts, the bindings %d", got, want)
	}
}

func TestEveryEvictionHasItsName(t *testing.T) {
	spec, err := LoadLB()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName("eviction", &enum); err != nil {
		t.Fatal(err)
	}
	for _, v := range enum.Values {
		e := Eviction(v.Value)
		if got, want := "EVICT_"+strings.ToUpper(e.String()), v.Name; e < Evictions && got != want {
			t.Errorf("eviction %d is called %q, want %q", v.Value, got, want)
		}
	}
	if got := Evictions.String(); got != "unknown_3" {
		t.Errorf("no eviction is called %q", got)
	}
}

func TestUnknownVerdictHasNoKind(t *testing.T) {
	v := Verdict(Verdicts)
	if v.Kind() != "" || v.Reason() != "" || v.String() != fmt.Sprintf("unknown_%d", uint32(v)) {
		t.Errorf("Verdict(%d) = %q, kind %q, reason %q", v, v, v.Kind(), v.Reason())
	}
}
