package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"fairlead/testenv/testvault"
	"fairlead/userspace/control"
	"fairlead/userspace/model"
	"fairlead/userspace/vault"
)

// A medium is where stores are that are opened one after the other.
type medium struct {
	name string
	open func(ctx context.Context) (Store, error)
	// peek looks at what was opened; nil if nobody else can.
	peek func(ctx context.Context) (*Peek, error)
	// lasting says that a store has what one before it had.
	lasting bool
}

// media returns one of each kind, and that at VAULT_ADDR if there is one.
func media(t *testing.T) []medium {
	t.Helper()
	memory, dir, server := NewMemory(), t.TempDir(), testvault.New(t)
	all := []medium{
		{"memory", func(context.Context) (Store, error) { return memory, nil }, nil, false},
		{"file", func(context.Context) (Store, error) {
			f, broken, err := OpenFile(dir)
			return f, errors.Join(broken, err)
		}, func(ctx context.Context) (*Peek, error) { return PeekFile(ctx, dir) }, true},
		{"vault", func(ctx context.Context) (Store, error) {
			v, _, err := openVault(ctx, server)
			return v, err
		}, func(ctx context.Context) (*Peek, error) { return peekVault(ctx, server) }, true},
	}
	if at := os.Getenv("VAULT_ADDR"); at != "" {
		conf := &model.Vault{Address: at, CA: os.Getenv("VAULT_CACERT"), Namespace: os.Getenv("VAULT_NAMESPACE")}
		all = append(all, realMedium("vault at VAULT_ADDR", conf, fmt.Sprintf("secret/fairlead-test-%d", time.Now().UnixNano())))
	}
	if os.Getenv("FAIRLEAD_SLOW") != "" { // it takes minutes to build
		v := testvault.Start(t)
		all = append(all, realMedium("real vault", &model.Vault{Address: v.URL, TokenFile: v.TokenFile}, "secret/fairlead"))
	}
	return all
}

// realMedium returns the one at a path of a Vault that is none of ours.
func realMedium(name string, conf *model.Vault, path string) medium {
	return medium{name, func(ctx context.Context) (Store, error) {
		v, _, err := openAt(ctx, conf, path)
		return v, err
	}, func(ctx context.Context) (*Peek, error) { return peekAt(ctx, conf, path) }, true}
}

// openVault opens the store of a server.
func openVault(ctx context.Context, s *testvault.Server) (*Vault, string, error) {
	return openAt(ctx, &model.Vault{Address: s.URL, TokenFile: s.TokenFile}, "secret/fairlead")
}

func openAt(ctx context.Context, conf *model.Vault, path string) (*Vault, string, error) {
	kv, err := vault.OpenKV(conf, path)
	if err != nil {
		return nil, "", err
	}
	return OpenVault(ctx, kv, path)
}

// peekVault looks at the store of a server.
func peekVault(ctx context.Context, s *testvault.Server) (*Peek, error) {
	return peekAt(ctx, &model.Vault{Address: s.URL, TokenFile: s.TokenFile}, "secret/fairlead")
}

func peekAt(ctx context.Context, conf *model.Vault, path string) (*Peek, error) {
	kv, err := vault.OpenKV(conf, path)
	if err != nil {
		return nil, err
	}
	return PeekVault(ctx, kv, path)
}

// mustOpen returns a store and its history.
func (m *medium) mustOpen(t *testing.T) (*History, Store) {
	t.Helper()
	s, err := m.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHistory(t.Context(), s, 300)
	if err != nil {
		t.Fatal(err)
	}
	return h, s
}

func mustClose(t *testing.T, s Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAnyStoreKeepsWhatEachRevisionLedTo(t *testing.T) {
	for _, m := range media(t) {
		t.Run(m.name, func(t *testing.T) {
			h, s := m.mustOpen(t)
			if r, c := h.Last(); r.Number != 0 || c.Base != "" {
				t.Errorf("an empty one has %+v, %+v", r, c)
			}
			want := written(t, h, 700)
			wantHistory(t, h, want)
			if first, last := h.Bounds(); last != 700 || first != 385 {
				t.Errorf("revisions %d to %d are kept, want 385 to 700", first, last)
			}
			for _, n := range []uint64{0, 1, 384, 701} {
				if _, err := h.Range(t.Context(), n, n); !errors.Is(err, control.ErrNotFound) {
					t.Errorf("revision %d: %v", n, err)
				}
			}
			mustClose(t, s)
			for range 2 {
				h, s = m.mustOpen(t)
				wantHistory(t, h, want)
				mustClose(t, s)
			}
		})
	}
}

func TestAnyStoreKeepsByNames(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	for _, m := range media(t) {
		t.Run(m.name, func(t *testing.T) {
			_, s := m.mustOpen(t)
			if data, at, err := s.Kept(t.Context(), "x"); data != nil || !at.IsZero() || err != nil {
				t.Errorf("%q, %v, %v", data, at, err)
			}
			for _, text := range []string{"one", large, "two"} {
				if err := s.Keep(t.Context(), "x", []byte(text)); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if data, at, err := s.Kept(t.Context(), "x"); string(data) != text || time.Since(at) > time.Minute || err != nil {
						t.Errorf("%d bytes, %v, %v; want %d", len(data), at, err, len(text))
					}
					mustClose(t, s)
					_, s = m.mustOpen(t)
				}
			}
			mustClose(t, s)
		})
	}
}

func TestStepsTogetherAreOneTransactionOfAnyStore(t *testing.T) {
	doc := []byte(strings.Repeat("x", 700_000))
	c := Config{Base: Digest(doc)}
	for _, m := range media(t) {
		t.Run(m.name, func(t *testing.T) {
			h, s := m.mustOpen(t)
			steps := []Step{{Config: c, Document: doc}, {Config: c, Document: doc}, {Config: c, Document: doc}}
			if err := h.Append(t.Context(), steps); err != nil {
				t.Fatal(err)
			}
			if r, _ := h.Last(); r.Number != 3 || steps[1].Revision.Number != 2 {
				t.Errorf("last %+v, steps %+v", r, steps)
			}
			if got, err := h.Document(t.Context(), c.Base); err != nil || Digest(got) != c.Base {
				t.Errorf("document of %d bytes, %v", len(got), err)
			}
			if _, err := s.Document(t.Context(), "none"); err == nil {
				t.Error("a document is there that is not")
			}
			mustClose(t, s)
		})
	}
}

func TestALaterSchemaIsRefused(t *testing.T) {
	for _, m := range media(t) {
		if !m.lasting {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			h, s := m.mustOpen(t)
			written(t, h, 3)
			head := h.head
			head.Schema = 7
			if err := s.Append(t.Context(), head, nil, nil); err != nil {
				t.Fatal(err)
			}
			mustClose(t, s)
			s, err := m.open(t.Context())
			if err == nil {
				_, err = NewHistory(context.Background(), s, 1)
				mustClose(t, s)
			}
			if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), " is 7 and this version knows 1") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// BenchmarkVaultChanges says how many changes a second the Vault store takes from a fake
// that answers at once, and from Vault.
func BenchmarkVaultChanges(b *testing.B) {
	b.Run("fake", func(b *testing.B) {
		server := testvault.New(b)
		before, _ := server.Requests()
		changes(b, &model.Vault{Address: server.URL, TokenFile: server.TokenFile})
		after, _ := server.Requests()
		b.ReportMetric(float64(after-before)/float64(b.N), "requests/op")
	})
	b.Run("vault", func(b *testing.B) {
		v := testvault.Start(b)
		changes(b, &model.Vault{Address: v.URL, TokenFile: v.TokenFile})
	})
}

// changes appends one revision after the other at a server.
func changes(b *testing.B, conf *model.Vault) {
	v, _, err := openAt(b.Context(), conf, "secret/fairlead")
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	h, err := NewHistory(b.Context(), v, DefaultLimit)
	if err != nil {
		b.Fatal(err)
	}
	doc := []byte("x")
	for i := 0; b.Loop(); i++ {
		e := weight(fmt.Sprint("b", i%10), i)
		s := Step{Revision: control.Revision{Time: time.Now(), Who: "test", Edits: []control.Edit{e}}, Config: Config{Base: Digest(doc), Edits: []control.Edit{e}}, Document: doc}
		if err := h.Append(b.Context(), []Step{s}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
}
