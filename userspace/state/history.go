package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"fairlead/userspace/control"
)

const (
	// DefaultLimit is how many revisions a history keeps.
	DefaultLimit = 10_000
	// every is after how many entries one has all edits, so that those of any are
	// found soon.
	every = 128
)

// A Config is a configuration as it is kept: edits on top of a document.
type Config struct {
	Base    string // digest of the document
	Applied bool   // the document stands in the place of the file
	Edits   []control.Edit
}

// A Step is a revision to append, with what it leads to.
type Step struct {
	Revision control.Revision
	Config   Config
	// Document is that of Base. It may be nil if Base is the one before.
	Document []byte
}

// A History is the revisions of a configuration. It may be used by several goroutines.
type History struct {
	store Store
	limit int

	mu   sync.Mutex
	head Head
	last control.Revision
	now  Config
}

// NewHistory returns the history that a store holds. It keeps limit revisions, and up
// to 127 more, or what the store is made for if that is less.
func NewHistory(ctx context.Context, store Store, limit int) (*History, error) {
	h := &History{store: store, limit: min(limit, store.Most())}
	var err error
	if h.head, err = store.Head(ctx); err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if h.head.Schema > schema {
		return nil, fmt.Errorf("%w: its schema is %d and this version knows %d: install that version again, or use another --state-dir", ErrSchema, h.head.Schema, schema)
	}
	h.head.Schema = schema
	if h.head.Last == 0 {
		return h, nil
	}
	last, err := h.read(ctx, h.head.Last, h.head.Last)
	if err != nil {
		return nil, err
	}
	h.last, h.now = last[0].Entry.Revision, last[0].Config
	return h, nil
}

// Digest names a document.
func Digest(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}

// Last returns the newest revision, a zero one if there is none, and what it led to.
func (h *History) Last() (control.Revision, Config) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last, h.now
}

// Append adds steps behind the newest revision, together, and numbers them. On an
// error there are none.
func (h *History) Append(ctx context.Context, steps []Step) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	head, now := h.head, h.now
	head.Documents = slices.Clone(head.Documents)
	var entries []Entry
	documents := map[string][]byte{}
	for i := range steps {
		s := &steps[i]
		head.Last++
		s.Revision.Number = head.Last
		if head.First == 0 {
			head.First = head.Last
		}
		if n := len(head.Documents); n == 0 || head.Documents[n-1].Digest != s.Config.Base {
			head.Documents = append(head.Documents, Use{s.Config.Base, head.Last})
			documents[s.Config.Base] = s.Document
		}
		entries = append(entries, entryOf(s, now.Edits))
		now = s.Config
	}
	head.trim(h.limit)
	if err := h.store.Append(ctx, head, entries, documents); err != nil {
		return fmt.Errorf("keep state: %w", err)
	}
	h.head, h.now, h.last = head, now, steps[len(steps)-1].Revision
	return nil
}

// entryOf returns how a step is kept after some edits.
func entryOf(s *Step, before []control.Edit) Entry {
	e, after := Entry{Revision: s.Revision, Base: s.Config.Base, Applied: s.Config.Applied}, s.Config.Edits
	e.leaveOut()
	if isWhole(s.Revision.Number) {
		e.Whole, e.Add = true, after
		return e
	}
	stay := 0
	for i := range before {
		if stay < len(after) && reflect.DeepEqual(before[i], after[stay]) {
			stay++
		} else {
			e.Drop = append(e.Drop, i)
		}
	}
	e.Add = after[stay:]
	return e
}

func isWhole(number uint64) bool { return number%every == 1 }

// trim forgets the oldest entries, and documents that none has any more.
func (h *Head) trim(limit int) {
	if h.Last < uint64(limit) {
		return
	}
	h.First = max(h.First, (h.Last-uint64(limit))/every*every+1)
	for len(h.Documents) > 1 && h.Documents[1].Since <= h.First {
		h.Documents = h.Documents[1:]
	}
}

// has reports whether an entry has this document.
func (h *Head) has(digest string) bool {
	return slices.ContainsFunc(h.Documents, func(u Use) bool { return u.Digest == digest })
}

// A Kept is an entry and what it led to.
type Kept struct {
	Entry  Entry
	Config Config
}

// Range returns the revisions from first to last, in their order. The error wraps
// [control.ErrNotFound] if one is not kept, or never was.
func (h *History) Range(ctx context.Context, first, last uint64) ([]Kept, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.read(ctx, first, last)
}

// Bounds returns the numbers of the oldest and the newest revision; 0 if there is none.
func (h *History) Bounds() (first, last uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.head.First, h.head.Last
}

// Document returns the base of a revision by its digest.
func (h *History) Document(ctx context.Context, digest string) ([]byte, error) {
	data, err := h.store.Document(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return data, nil
}

func (h *History) read(ctx context.Context, first, last uint64) ([]Kept, error) {
	if first < max(h.head.First, 1) || last > h.head.Last || first > last {
		return nil, fmt.Errorf("revision %d: %w", first, control.ErrNotFound)
	}
	whole := max((first-1)/every*every+1, h.head.First)
	entries, err := h.store.Entries(ctx, whole, last)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	var all []Kept
	var edits []control.Edit
	for _, e := range entries {
		if edits, err = e.after(edits); err != nil {
			return nil, fmt.Errorf("read state: revision %d: %w", e.Number, err)
		}
		if e.Number >= first {
			all = append(all, Kept{e, Config{e.Base, e.Applied, edits}})
		}
	}
	if uint64(len(all)) != last-first+1 {
		return nil, fmt.Errorf("read state: %w: revisions are missing", errBroken)
	}
	documents := map[string]string{}
	for i := range all {
		if err := h.giveBack(ctx, &all[i].Entry, documents); err != nil {
			return nil, fmt.Errorf("read state: revision %d: %w", all[i].Entry.Number, err)
		}
	}
	return all, nil
}

// leaveOut has the edits of e say nothing where they say what the document does.
func (e *Entry) leaveOut() {
	e.Edits = slices.Clone(e.Edits)
	for i := range e.Edits {
		if x := &e.Edits[i]; x.Op == control.OpApply && x.Spec != "" && Digest([]byte(x.Spec)) == e.Base {
			x.Spec, e.Restated = "", append(e.Restated, i)
		}
	}
}

// giveBack is the reverse of leaveOut. Documents that it reads it puts at hand.
func (h *History) giveBack(ctx context.Context, e *Entry, documents map[string]string) error {
	if len(e.Restated) == 0 {
		return nil
	}
	if _, ok := documents[e.Base]; !ok {
		data, err := h.store.Document(ctx, e.Base)
		if err != nil {
			return err
		}
		documents[e.Base] = string(data)
	}
	e.Edits = slices.Clone(e.Edits) // the store may have them, too
	for _, i := range e.Restated {
		if i < 0 || i >= len(e.Edits) {
			return fmt.Errorf("%w: it restates what is not there", errBroken)
		}
		e.Edits[i].Spec = documents[e.Base]
	}
	return nil
}

// after returns the edits in force after e, which does not share what it returns.
func (e *Entry) after(before []control.Edit) ([]control.Edit, error) {
	if e.Whole {
		return e.Add, nil
	}
	after := make([]control.Edit, 0, len(before)+len(e.Add))
	drop := e.Drop
	for i := range before {
		if len(drop) > 0 && drop[0] == i {
			drop = drop[1:]
			continue
		}
		after = append(after, before[i])
	}
	if len(drop) > 0 {
		return nil, fmt.Errorf("%w: it drops what is not there", errBroken)
	}
	return append(after, e.Add...), nil
}
