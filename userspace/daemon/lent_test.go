package daemon

import (
	"errors"
	"log/slog"
	"testing"

	"fairlead/userspace/state"
)

func TestAStateThatIsLentIsNotUsed(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	l, err := openLent(t.Context(), dir, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Keep(t.Context(), "name", []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := l.lend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Keep(t.Context(), "name", []byte("two")); !errors.Is(err, errLent) {
		t.Errorf("keep: %v", err)
	}
	if _, err := l.Head(t.Context()); !errors.Is(err, errLent) {
		t.Errorf("head: %v", err)
	}
	l.mu.Lock()
	if err := l.reopen(t.Context()); !errors.Is(err, errLent) { // by who came before it went
		t.Errorf("opened again: %v", err)
	}
	l.mu.Unlock()
	other, err := openLent(t.Context(), dir, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.takeBack(t.Context()); !errors.Is(err, state.ErrInUse) {
		t.Errorf("taken back from another process: %v", err)
	}
	if err := l.Keep(t.Context(), "name", []byte("two")); !errors.Is(err, state.ErrInUse) {
		t.Errorf("keep what another process has: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if data, _, err := l.Kept(t.Context(), "name"); string(data) != "one" || err != nil {
		t.Errorf("kept %q, %v", data, err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAStateThatOthersHaveChangedIsNotTakenBack(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	l, err := openLent(t.Context(), dir, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.lend(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, err := openLent(t.Context(), dir, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	h, err := state.NewHistory(t.Context(), other, 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Append(t.Context(), []state.Step{{Config: state.Config{Base: "x"}}}), other.Close()); err != nil {
		t.Fatal(err)
	}
	if err := l.takeBack(t.Context()); !errors.Is(err, errMoved) {
		t.Errorf("taken back: %v", err)
	}
	if err := l.Keep(t.Context(), "name", []byte("one")); !errors.Is(err, errMoved) {
		t.Errorf("keep: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestAStateInMemoryStays(t *testing.T) {
	l, err := openLent(t.Context(), state.Off, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(l.Keep(t.Context(), "name", []byte("one")), l.lend(t.Context()), l.takeBack(t.Context()))
	if data, _, kerr := l.Kept(t.Context(), "name"); string(data) != "one" || err != nil || kerr != nil {
		t.Errorf("kept %q, %v, %v", data, err, kerr)
	}
}
