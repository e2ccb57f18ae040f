package state

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/testvault"
	"fairlead/userspace/control"
)

// large returns step i, of which two make a page, and five have a document.
func large(i int) Step {
	doc := []byte(strings.Repeat(fmt.Sprint("document ", i/5), 25_000))
	edits := []control.Edit{{Op: control.OpPutPool, Pool: fmt.Sprint("p", i), Spec: strings.Repeat("x", 20_000)}}
	return Step{
		Revision: control.Revision{Who: "test", Edits: edits},
		Config:   Config{Base: Digest(doc), Edits: edits}, Document: doc,
	}
}

// mustOpenVault returns the history of a server's store.
func mustOpenVault(t *testing.T, s *testvault.Server) (*History, *Vault) {
	t.Helper()
	v, _, err := openVault(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHistory(t.Context(), v, 300)
	if err != nil {
		t.Fatal(err)
	}
	return h, v
}

// wantSteps checks what another agent would find: the first n steps, or the first of
// orElse, and returns how many it finds.
func wantSteps(t *testing.T, s *testvault.Server, n, orElse int) (found int) {
	t.Helper()
	h, v := mustOpenVault(t, s.Clone())
	defer mustClose(t, v)
	_, last := h.Bounds()
	if found = int(last); found != n && found != orElse {
		t.Fatalf("%d revisions are there, want %d or %d", found, n, orElse)
	}
	if found == 0 {
		return found
	}
	all, err := h.Range(t.Context(), 1, last)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range all {
		if diff := cmp.Diff(large(i).Config, k.Config); diff != "" {
			t.Fatalf("revision %d: -want +got:\n%s", i+1, diff)
		}
		if i > 0 && all[i-1].Config.Base == k.Config.Base {
			continue
		}
		if doc, err := h.Document(t.Context(), k.Config.Base); err != nil || Digest(doc) != k.Config.Base {
			t.Fatalf("document of revision %d: %d bytes, %v", i+1, len(doc), err)
		}
	}
	return found
}

func TestAServerThatFailsLeavesTheOldOrTheNew(t *testing.T) {
	fates := map[string]testvault.Fate{"refused": testvault.Refused, "cut": testvault.Cut, "lost": testvault.Lost}
	often := []int{1, 5}
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		often = []int{1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 17, 23, 30}
	}
	for name, fate := range fates {
		for _, k := range often {
			t.Run(fmt.Sprintf("each %d is %s", k, name), func(t *testing.T) {
				failing(t, k, fate)
			})
		}
	}
}

// failing appends steps while each k-th request of a server fails.
func failing(t *testing.T, k int, fate testvault.Fate) {
	s := testvault.New(t)
	h, v := mustOpenVault(t, s)
	requests := 0
	s.Fail(func(_, _ string) testvault.Fate {
		if requests++; requests%k == 0 {
			return fate
		}
		return testvault.Answered
	})
	done := 0
	for try := 0; done < 8 && try < 12; try++ {
		err := h.Append(t.Context(), []Step{large(done)})
		if err == nil {
			done++
			continue
		}
		if r, _ := h.Last(); r.Number != uint64(done) || errors.Is(err, ErrInUse) {
			t.Fatalf("after %d steps and %v the last is %d", done, err, r.Number)
		}
		wantSteps(t, s, done, done+1)
	}
	wantSteps(t, s, done, done+1)
	if k > 3 && done < 8 {
		t.Errorf("only %d steps were taken", done)
	}
	s.Fail(nil)
	if err := h.Append(t.Context(), []Step{large(done)}); err != nil {
		t.Fatal(err)
	}
	wantSteps(t, s, done+1, done+1)
	mustClose(t, v)
	wantTidy(t, s)
}

func TestAnIndexWhoseAnswerIsLostIsFoundOrOverwritten(t *testing.T) {
	s := testvault.New(t)
	h, v := mustOpenVault(t, s)
	lost := func(asked testvault.Fate) func(method, path string) testvault.Fate {
		return func(method, path string) testvault.Fate {
			if path == "fairlead/"+headName {
				return map[string]testvault.Fate{"POST": testvault.Lost, "GET": asked}[method]
			}
			return testvault.Answered
		}
	}
	s.Fail(lost(testvault.Answered))
	if err := h.Append(t.Context(), []Step{large(0)}); err != nil {
		t.Errorf("an index that is there: %v", err)
	}
	wantSteps(t, s, 1, 1)
	s.Fail(lost(testvault.Sealed))
	for range 2 {
		err := h.Append(t.Context(), []Step{large(1)})
		if r, _ := h.Last(); err == nil || r.Number != 1 {
			t.Errorf("nobody knows, and the last is %d, %v", r.Number, err)
		}
	}
	if found := wantSteps(t, s, 1, 2); found != 2 {
		t.Error("the index did not come that the test is about")
	}
	s.Fail(nil)
	if err := v.Keep(t.Context(), "x", nil); err != nil {
		t.Error(err)
	}
	wantSteps(t, s, 1, 1)
	if err := h.Append(t.Context(), []Step{large(1), large(2)}); err != nil {
		t.Error(err)
	}
	wantSteps(t, s, 3, 3)
	mustClose(t, v)
	wantTidy(t, s)
}

// wantTidy checks that nothing is left that the index does not have.
func wantTidy(t *testing.T, s *testvault.Server) {
	t.Helper()
	_, v := mustOpenVault(t, s)
	defer mustClose(t, v)
	want := map[string]bool{"fairlead/head": true}
	for _, b := range v.now.blobs() {
		for part := range b.Parts {
			want["fairlead/"+b.name(part)] = true
		}
	}
	got := map[string]bool{}
	for _, path := range s.Paths() {
		got[path] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("secrets: -want +got:\n%s", diff)
	}
}

func TestAnAgentNoticesThatAnotherHasItsVault(t *testing.T) {
	s := testvault.New(t)
	old, v := mustOpenVault(t, s)
	if err := old.Append(t.Context(), []Step{large(0)}); err != nil {
		t.Fatal(err)
	}
	v.self.PID++ // or it would be the same process
	if err := v.Keep(t.Context(), "x", []byte("old")); err != nil {
		t.Fatal(err)
	}
	w, former, err := openVault(t.Context(), s)
	if host, _ := os.Hostname(); err != nil || former != fmt.Sprintf("process %d of %s", os.Getpid()+1, host) {
		t.Fatalf("who had it is %q, %v", former, err)
	}
	h, err := NewHistory(t.Context(), w, 300)
	if err != nil {
		t.Fatal(err)
	}
	want := "another agent runs: process %d of %s has taken over secret/fairlead at %s; give each agent a path of its own"
	want = fmt.Sprintf(want, w.self.PID, w.self.Host, w.self.Since.Format("2006-01-02T15:04:05Z07:00"))
	for range 2 {
		err = old.Append(t.Context(), []Step{large(7)})
		if !errors.Is(err, ErrInUse) || err.Error() != "keep state: "+want {
			t.Errorf("the old one: %v\nwant %s", err, want)
		}
	}
	if err := v.Keep(t.Context(), "x", []byte("new")); !errors.Is(err, ErrInUse) {
		t.Errorf("the old one keeps: %v", err)
	}
	mustClose(t, v)
	if err := h.Append(t.Context(), []Step{large(1)}); err != nil {
		t.Errorf("the new one: %v", err)
	}
	if data, _, err := w.Kept(t.Context(), "x"); string(data) != "old" || err != nil {
		t.Errorf("%q is kept, %v", data, err)
	}
	mustClose(t, w)
	wantSteps(t, s, 2, 2)
	if w, former, err = openVault(t.Context(), s); err != nil || former != "" {
		t.Errorf("after the end: %q, %v", former, err)
	}
	mustClose(t, w)
	wantTidy(t, s)
}

func TestOnlyOneOfTwoAgentsThatStartTogetherHasTheVault(t *testing.T) {
	s := testvault.New(t)
	other := s.Clone()
	_, v := mustOpenVault(t, other)
	mustClose(t, v)
	s.Fail(func(method, _ string) testvault.Fate {
		if method == "POST" { // another one was faster
			s.Take(other)
		}
		return testvault.Answered
	})
	if _, _, err := openVault(t.Context(), s); !errors.Is(err, ErrInUse) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}

func TestWhatTheVaultHasIsBounded(t *testing.T) {
	s := testvault.New(t)
	_, v := mustOpenVault(t, s)
	h, err := NewHistory(t.Context(), v, 130)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 32 {
		var steps []Step
		for range 9 {
			steps = append(steps, large(i))
		}
		if err := h.Append(t.Context(), steps); err != nil {
			t.Fatal(err)
		}
	}
	if _, largest := s.Requests(); largest > testvault.MaxRequest {
		t.Errorf("a request has %d bytes", largest)
	}
	first, last := h.Bounds()
	mustClose(t, v)
	wantTidy(t, s)
	if n := len(s.Paths()); first == 1 || n > 150 {
		t.Errorf("%d secrets have revisions %d to %d", n, first, last)
	}
	if _, err := NewHistory(t.Context(), v, DefaultLimit); err != nil || v.Most() != vaultEntries {
		t.Errorf("limit %d, %v", v.Most(), err)
	}
}

func TestAVaultThatCannotBeHadIsSaidAtTheStart(t *testing.T) {
	for _, row := range []struct {
		name    string
		prepare func(*testvault.Server)
		want    string
	}{
		{"sealed", func(s *testvault.Server) { s.Fail(func(_, _ string) testvault.Fate { return testvault.Sealed }) },
			"open state: read secret/fairlead/head of vault: the server is sealed, or not ready; mend that, or use another --state-dir"},
		{"nothing may be deleted", func(s *testvault.Server) {
			s.Fail(func(method, _ string) testvault.Fate {
				if method == "DELETE" {
					return testvault.Denied
				}
				return testvault.Answered
			})
		}, "not allowed: the token is not good, or no policy lets it delete secret/metadata/fairlead/blobs/"},
		{"nothing may be created", func(s *testvault.Server) {
			s.Fail(func(method, path string) testvault.Fate {
				if method == "POST" && path != "fairlead/head" {
					return testvault.Denied
				}
				return testvault.Answered
			})
		}, "not allowed: the token is not good, or no policy lets it create and update secret/data/fairlead/blobs/"},
		{"somebody else's secret", func(s *testvault.Server) { s.Set("fairlead/head", map[string]string{"password": "x"}) },
			"open state: read secret/fairlead/head of vault: it is not what fairlead has put there: use another path; mend that, or use another --state-dir"},
		{"the index is deleted", func(s *testvault.Server) { s.Set("fairlead/blobs/x-0", nil) },
			"open state: secret/fairlead/head of vault is missing, but not what it has named: restore it, or delete all below secret/fairlead/blobs; mend that, or use another --state-dir"},
		{"a secret of another kind", func(s *testvault.Server) { s.Set("fairlead/head", map[string]string{"fairlead": "e30="}) },
			"open state: secret/fairlead/head of vault has no state of an agent: use another path; mend that, or use another --state-dir"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := testvault.New(t)
			row.prepare(s)
			_, _, err := openVault(t.Context(), s)
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %s", err, row.want)
			}
		})
	}
}

func TestAMissingBlobIsNamed(t *testing.T) {
	s := testvault.New(t)
	h, v := mustOpenVault(t, s)
	if err := h.Append(t.Context(), []Step{large(0), large(1)}); err != nil {
		t.Fatal(err)
	}
	gone := v.now.Pages[0].Blob.name(0)
	if err := v.kv.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	mustClose(t, v)
	v, _, err := openVault(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, v)
	if _, err := NewHistory(t.Context(), v, 300); !errors.Is(err, errBroken) || !strings.HasSuffix(err.Error(), "secret/fairlead/"+gone+" of vault is missing") {
		t.Errorf("error %v", err)
	}
}

func TestADeletedIndexIsWrittenAgain(t *testing.T) {
	s := testvault.New(t)
	h, v := mustOpenVault(t, s)
	if err := h.Append(t.Context(), []Step{large(0)}); err != nil {
		t.Fatal(err)
	}
	if err := v.kv.Delete(t.Context(), headName); err != nil {
		t.Fatal(err)
	}
	if err := h.Append(t.Context(), []Step{large(1)}); err != nil {
		t.Fatal(err)
	}
	wantSteps(t, s, 2, 2)
	mustClose(t, v)
}
