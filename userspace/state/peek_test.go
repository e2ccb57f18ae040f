package state

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAStoreIsLookedAtWhileAnAgentWritesIt(t *testing.T) {
	dir := t.TempDir()
	if _, err := PeekFile(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no store: %v", err)
	}
	h, f := opened(t, dir)
	defer f.Close()
	if _, err := PeekFile(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty store: %v", err)
	}
	want := written(t, h, 300)
	var over atomic.Bool
	done := make(chan error, 1)
	go func() {
		for !over.Load() {
			p, err := PeekFile(t.Context(), dir)
			if err == nil && Digest(p.Document) != p.Config.Base {
				err = errors.New("another document")
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for n, c := range written(t, h, 200) {
		want[n] = c
	}
	over.Store(true)
	if err := <-done; err != nil {
		t.Error(err)
	}
	p, err := PeekFile(t.Context(), dir)
	if err != nil || p.Revision.Number != 500 {
		t.Fatalf("%+v, %v", p, err)
	}
	if diff := cmp.Diff(want[500], p.Config); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
