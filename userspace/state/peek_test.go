package state

import (
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/testvault"
)

func TestAStoreIsLookedAtWhileAnAgentWritesIt(t *testing.T) {
	for _, m := range media(t) {
		if m.lasting {
			t.Run(m.name, func(t *testing.T) { lookedAt(t, &m) })
		}
	}
}

func lookedAt(t *testing.T, m *medium) {
	if _, err := m.peek(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no store: %v", err)
	}
	h, s := m.mustOpen(t)
	defer mustClose(t, s)
	if _, err := m.peek(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty store: %v", err)
	}
	want := written(t, h, 300)
	var over atomic.Bool
	done := make(chan error, 1)
	go func() {
		for !over.Load() {
			p, err := m.peek(t.Context())
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
	p, err := m.peek(t.Context())
	if err != nil || p.Revision.Number != 500 {
		t.Fatalf("%+v, %v", p, err)
	}
	if diff := cmp.Diff(want[500], p.Config); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestALookAtAVaultChangesNothing(t *testing.T) {
	s := testvault.New(t)
	h, v := mustOpenVault(t, s)
	if err := h.Append(t.Context(), []Step{large(0), large(1), large(2)}); err != nil {
		t.Fatal(err)
	}
	s.Fail(func(method, path string) testvault.Fate {
		if method != http.MethodGet {
			t.Errorf("%s %s", method, path)
		}
		return testvault.Answered
	})
	p, err := peekVault(t.Context(), s)
	if err != nil || p.Revision.Number != 3 || Digest(p.Document) != p.Config.Base {
		t.Fatalf("%+v, %v", p, err)
	}
	s.Fail(nil)
	if err := h.Append(t.Context(), []Step{large(3)}); err != nil {
		t.Errorf("the agent that has it: %v", err)
	}
	mustClose(t, v)
}

// TestAVaultThatChangesMeanwhileIsLookedAtAgain has all that an index names be gone
// when it has just been read.
func TestAVaultThatChangesMeanwhileIsLookedAtAgain(t *testing.T) {
	s, next := testvault.New(t), testvault.New(t)
	for i, server := range []*testvault.Server{s, next} {
		h, v := mustOpenVault(t, server)
		if err := h.Append(t.Context(), []Step{large(5 * i)}); err != nil {
			t.Fatal(err)
		}
		mustClose(t, v)
	}
	changed := 0
	s.Fail(func(_, path string) testvault.Fate {
		if strings.HasPrefix(path, "fairlead/"+blobsName+"/") && changed == 0 {
			changed++
			s.Take(next)
		}
		return testvault.Answered
	})
	p, err := peekVault(t.Context(), s)
	if err != nil || changed != 1 {
		t.Fatalf("%v, %d changes", err, changed)
	}
	if diff := cmp.Diff(large(5).Config, p.Config); diff != "" || Digest(p.Document) != p.Config.Base {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAVaultThatCannotBeLookedAtIsNamed(t *testing.T) {
	s := testvault.New(t)
	s.Set("fairlead/head", map[string]string{"password": "x"})
	want := "look at state: read secret/fairlead/head of vault: it is not what fairlead has put there: use another path"
	if _, err := peekVault(t.Context(), s); err == nil || err.Error() != want {
		t.Errorf("error %v", err)
	}
}
