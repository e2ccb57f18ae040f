package testenv

import (
	"os"
	"testing"
)

// RequireRoot skips the test if it may not load BPF or make namespaces.
//
// FAIRLEAD_TEST_ROOT=1, which `make test` sets, turns the skip into a failure:
// where root is promised, a test that did not run is a test that failed.
func RequireRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("FAIRLEAD_TEST_ROOT") != "" {
		tb.Fatal("needs root, and FAIRLEAD_TEST_ROOT says there is")
	}
	tb.Skip("needs root")
}
