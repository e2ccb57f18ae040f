package testenv

import "os"

// TB is the part of [testing.TB] that this package needs. A program that is
// not a test, such as the demo, brings its own; Fatalf and Skipf must not return.
type TB interface {
	Name() string
	Helper()
	Cleanup(f func())
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// RequireRoot skips the test if it may not load BPF or make namespaces.
//
// FAIRLEAD_TEST_ROOT=1, which `make test` sets, turns the skip into a failure:
// where root is promised, a test that did not run is a test that failed.
func RequireRoot(tb TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("FAIRLEAD_TEST_ROOT") != "" {
		tb.Fatalf("needs root, and FAIRLEAD_TEST_ROOT says there is")
	}
	tb.Skipf("needs root")
}
