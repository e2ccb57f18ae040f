package state

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// damaged opens a copy of a store whose file is other bytes, and checks its history,
// which may lack the revisions of the last transaction, if these can be read.
func damaged(t *testing.T, data []byte, want map[uint64]Config) (broken error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, fileName)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, broken, err := OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	aside, _ := filepath.Glob(path + ".broken-*")
	if broken == nil {
		if len(aside) > 0 {
			t.Errorf("%v is kept aside of a good file", aside)
		}
		h, err := NewHistory(t.Context(), f, 300)
		if err != nil {
			t.Fatal(err)
		}
		if _, last := h.Bounds(); last < 342 {
			t.Errorf("the last revision is %d", last)
		}
		wantHistory(t, h, want)
		return nil
	}
	if len(aside) != 1 || strings.Contains(broken.Error(), "\n") || !strings.Contains(broken.Error(), aside[0]) {
		t.Errorf("%v is kept aside, and %v said", aside, broken)
	}
	if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, data) {
		t.Errorf("what is kept aside is something else: %v", err)
	}
	if head, err := f.Head(t.Context()); err != nil || head.Last != 0 {
		t.Errorf("a new store has %+v, %v", head, err)
	}
	return broken
}

// sample returns the bytes of a store and what its revisions led to.
func sample(t *testing.T) (data []byte, want map[uint64]Config) {
	t.Helper()
	dir := t.TempDir()
	h, f := opened(t, dir)
	want = written(t, h, 350)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	return data, want
}

func TestATruncatedFileIsKeptAside(t *testing.T) {
	data, want := sample(t)
	missed := 0
	for size := 0; size < len(data); size += 4096*3 + 1000 {
		if damaged(t, data[:size], want) != nil { // else what was cut off is free
			missed++
		}
	}
	if missed == 0 {
		t.Error("nothing was ever missed")
	}
	if damaged(t, nil, want) == nil {
		t.Error("an empty file is a good one")
	}
}

func TestAFileThatLacksSomethingIsKeptAside(t *testing.T) {
	for name, lose := range map[string]func(*bolt.Tx) error{
		"a document": func(tx *bolt.Tx) error {
			b := tx.Bucket(bucketDocuments)
			first, _ := b.Cursor().First()
			return b.Delete(first)
		},
		"a revision": func(tx *bolt.Tx) error { return tx.Bucket(bucketEntries).Delete(numberKey(200)) },
	} {
		t.Run(name, func(t *testing.T) {
			data, want := sample(t)
			path := filepath.Join(t.TempDir(), fileName)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := bolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(lose), db.Close()); err != nil {
				t.Fatal(err)
			}
			if data, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
			if damaged(t, data, want) == nil {
				t.Error("nothing was missed")
			}
		})
	}
}

func TestAFileWithWrongBitsIsKeptAsideOrRead(t *testing.T) {
	data, want := sample(t)
	r := rand.New(rand.NewPCG(1, 2))
	rounds, broke := 25, 0
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		rounds = 5000
	}
	for range rounds {
		bad := bytes.Clone(data)
		for range 1 + r.IntN(8) {
			at := r.IntN(len(bad))
			bad[at] ^= 1 << r.IntN(8)
		}
		if damaged(t, bad, want) != nil {
			broke++
		}
	}
	if broke == 0 {
		t.Error("no fault was found")
	}
	zeros := bytes.Clone(data)
	clear(zeros[len(zeros)/3:][:8192])
	damaged(t, zeros, want)
}
