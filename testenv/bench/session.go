package main

import (
	"fmt"
	"io"
	"runtime"
)

// A session is a testenv.TB for a program: what [testing.T] is for a test.
type session struct {
	name     string
	log      io.Writer
	cleanups []func()
	err      error
}

// run runs f on a goroutine of its own, undoes what was made and returns why f
// gave up, if it did.
func (s *session) run(f func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.cleanup()
		f()
	}()
	<-done
	return s.err
}

// cleanup calls what was registered, the last first, even if one of them gives up.
func (s *session) cleanup() {
	last := len(s.cleanups) - 1
	if last < 0 {
		return
	}
	f := s.cleanups[last]
	s.cleanups = s.cleanups[:last]
	defer s.cleanup()
	f()
}

func (s *session) Name() string { return s.name }

func (s *session) Helper() {}

func (s *session) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

func (s *session) Logf(format string, args ...any) {
	fmt.Fprintf(s.log, "bench: "+format+"\n", args...)
}

func (s *session) Fatalf(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("%s: %s", s.name, fmt.Sprintf(format, args...))
	}
	runtime.Goexit()
}

// Skipf gives up too: a benchmark that did not run is not a result.
func (s *session) Skipf(format string, args ...any) { s.Fatalf(format, args...) }
