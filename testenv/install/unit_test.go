package install

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const unitPath = "../../deploy/fairlead.service"

// setting returns the values of a key of the unit, in their order.
func setting(t *testing.T, key string) (values []string) {
	t.Helper()
	text, err := os.ReadFile(unitPath)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, key+"="); ok {
			values = append(values, strings.TrimSpace(v))
		}
	}
	if len(values) == 0 {
		t.Fatalf("%s has no %s", unitPath, key)
	}
	return values
}

// TestUnitIsHardened wants an exposure of 2.0 at most, of 10.
func TestUnitIsHardened(t *testing.T) {
	out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", unitPath).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	const only = "CAP_BPF CAP_NET_ADMIN CAP_PERFMON CAP_NET_BIND_SERVICE"
	for _, key := range []string{"AmbientCapabilities", "CapabilityBoundingSet"} {
		if got := setting(t, key); len(got) != 1 || got[0] != only {
			t.Errorf("%s is %q, want %s", key, got, only)
		}
	}
}
