package testenv

import (
	"errors"
	"time"
)

// Patience is how long anything is waited for. It is far longer than anything
// takes, so that a busy machine fails no test.
const Patience = 60 * time.Second

// Await waits until ok returns true. When it does not in time, the test ends.
func Await(tb TB, what string, ok func() bool) {
	tb.Helper()
	AwaitNil(tb, what, func() error {
		if ok() {
			return nil
		}
		return errors.New("not yet")
	})
}

// AwaitNil waits until try returns nil. When it does not in time, the test ends
// with the last error.
func AwaitNil(tb TB, what string, try func() error) {
	tb.Helper()
	pause := time.Millisecond
	for deadline := time.Now().Add(Patience); ; time.Sleep(pause) {
		tb.Helper() // by which a program that is interrupted ends
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("waited %s for %s: %v", Patience, what, err)
		}
		pause = min(2*pause, 10*time.Millisecond)
	}
}
