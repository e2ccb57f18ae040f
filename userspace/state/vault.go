package state

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// What a Vault keeps is bounded, so that no secret gets larger than Vault's storages
// take (512 KiB and more).
const (
	maxPart      = 256 << 10 // bytes of a secret, before base64
	maxTail      = 64 << 10  // bytes of the entries in the index
	vaultEntries = 1000      // in the history
	headName     = "head"    // where the index is
	blobsName    = "blobs"   // below which all else is
)

// A KV keeps bytes by names in the secrets of a Vault.
type KV interface {
	// Get returns what is kept, nil if nothing is, and the version to put something in
	// its place.
	Get(ctx context.Context, name string) (data []byte, version int, err error)
	// Put keeps data in the place of a version, and returns the new one. After an
	// error data may be there nevertheless, now or soon.
	Put(ctx context.Context, name string, data []byte, version int) (int, error)
	// List returns the names below one, Delete drops what one has.
	List(ctx context.Context, name string) ([]string, error)
	Delete(ctx context.Context, name string) error
	Close() error
}

// A Vault is a Store in a KV store of Vault or OpenBao.
//
// One secret, the index, says what the store holds: it has the newest entries itself,
// and names blobs with all the rest. A blob has a name that is never used again, and
// does not change; so what an index names stays what it was. Whatever is appended is
// there when the index is, which is written in the place of the version before it:
// who is not the last to have written it has to do with another agent.
type Vault struct {
	kv   KV
	path string // for messages
	self owner

	mu      sync.Mutex
	now     index  // what is committed
	version int    // of the secret with it
	unsure  bool   // another index than now may be there, or come yet
	lost    error  // another agent has the store
	garbage []blob // no index has them that is committed
}

// OpenVault takes the store over that is at a path of a KV store, which messages name.
// An agent that had it and has not closed it can change nothing any more: former says
// who that is, and is empty if there is none.
func OpenVault(ctx context.Context, kv KV, path string) (v *Vault, former string, err error) {
	host, _ := os.Hostname()
	v = &Vault{kv: kv, path: path, self: owner{ID: rand.Text(), Host: host, PID: os.Getpid(), Since: time.Now().UTC()}}
	former, err = v.take(ctx)
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("open state: %w; mend that, or use another --state-dir", err), kv.Close())
	}
	return v, former, nil
}

// survey reads the index, and returns the names of all blobs.
func (v *Vault) survey(ctx context.Context) (names []string, err error) {
	known, version, err := v.readIndex(ctx)
	if err != nil {
		return nil, err
	}
	if known.Head.Schema > schema {
		return nil, fmt.Errorf("%w: the schema of %s is %d and this version knows %d", ErrSchema, v.path, known.Head.Schema, schema)
	}
	// What is there before the index is taken, and is not in it, never will be.
	if names, err = v.kv.List(ctx, blobsName); err != nil {
		return nil, err
	}
	if known.Commit == "" && len(names) > 0 {
		return nil, fmt.Errorf("%s/%s of vault is missing, but not what it has named: restore it, or delete all below %s/%s", v.path, headName, v.path, blobsName)
	}
	v.now, v.version = known, version
	return names, nil
}

// take reads the index and makes it that of this agent.
func (v *Vault) take(ctx context.Context) (former string, err error) {
	names, err := v.survey(ctx)
	if err != nil {
		return "", err
	}
	if o := v.now.Owner; o.ID != "" && !o.Closed && (o.Host != v.self.Host || o.PID != v.self.PID) {
		former = o.String()
	}
	if err := v.commit(ctx, v.now); err != nil {
		return "", err
	}
	return former, v.clean(ctx, names)
}

// clean drops blobs of some names that the index does not have. It makes and drops one
// first: whether this agent may do so at all is to be known at the start.
func (v *Vault) clean(ctx context.Context, names []string) error {
	used := map[string]bool{}
	for _, b := range v.now.blobs() {
		for part := range b.Parts {
			used[b.name(part)] = true
		}
	}
	own := blob{ID: v.self.ID}.name(0)
	if _, err := v.kv.Put(ctx, own, nil, 0); err != nil {
		return err
	}
	if err := v.kv.Delete(ctx, own); err != nil {
		return err
	}
	for _, name := range names {
		if name = blobsName + "/" + name; used[name] {
			continue
		}
		if err := v.kv.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// Most implements [Store].
func (*Vault) Most() int { return vaultEntries }

func (v *Vault) Head(context.Context) (Head, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now.Head, nil
}

// Append writes what the index only names first.
func (v *Vault) Append(ctx context.Context, h Head, entries []Entry, documents map[string][]byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lost != nil {
		return v.lost
	}
	next := v.now
	next.Head = h
	next.Documents = maps.Clone(v.now.Documents)
	maps.DeleteFunc(next.Documents, func(digest string, _ blob) bool { return !h.has(digest) })
	for digest, data := range documents {
		b, err := v.writeBlob(ctx, data)
		if err != nil {
			return err
		}
		if next.Documents == nil {
			next.Documents = map[string]blob{}
		}
		next.Documents[digest] = b
	}
	if err := v.addEntries(ctx, &next, entries); err != nil {
		return err
	}
	return v.commit(ctx, next)
}

// addEntries adds entries to the tail of an index, makes that a page if it gets too
// long, and drops those that the head does not have.
func (v *Vault) addEntries(ctx context.Context, x *index, entries []Entry) error {
	x.Tail = slices.Clone(x.Tail)
	for i := range entries {
		data, err := json.Marshal(&entries[i])
		if err != nil {
			return err
		}
		x.Tail = append(x.Tail, data)
	}
	x.Pages = slices.DeleteFunc(slices.Clone(x.Pages), func(p page) bool { return p.Last < x.Head.First })
	size := 0
	for _, data := range x.Tail {
		size += len(data)
	}
	if len(x.Tail) < every && size <= maxTail {
		return nil
	}
	data, err := json.Marshal(x.Tail)
	if err != nil {
		return err
	}
	b, err := v.writeBlob(ctx, data)
	if err != nil {
		return err
	}
	x.Pages = append(x.Pages, page{x.Head.Last + 1 - uint64(len(x.Tail)), x.Head.Last, b})
	x.Tail = nil
	return nil
}

func (v *Vault) Entries(ctx context.Context, first, last uint64) (all []Entry, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	add := func(from uint64, list []json.RawMessage) error {
		for i, data := range list {
			if n := from + uint64(i); n < first || n > last {
				continue
			}
			var e Entry
			if err := json.Unmarshal(data, &e); err != nil {
				return err
			}
			all = append(all, e)
		}
		return nil
	}
	for _, p := range v.now.Pages {
		if p.Last < first || p.First > last {
			continue
		}
		data, err := v.readBlob(ctx, p.Blob)
		if err != nil {
			return nil, err
		}
		var list []json.RawMessage
		if err := json.Unmarshal(data, &list); err != nil {
			return nil, fmt.Errorf("%w: revisions %d to %d: %w", errBroken, p.First, p.Last, err)
		}
		if err := add(p.First, list); err != nil {
			return nil, err
		}
	}
	return all, add(v.now.Head.Last+1-uint64(len(v.now.Tail)), v.now.Tail)
}

func (v *Vault) Document(ctx context.Context, digest string) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	b, ok := v.now.Documents[digest]
	if !ok {
		return nil, errNoDocument
	}
	return v.readBlob(ctx, b)
}

func (v *Vault) Keep(ctx context.Context, name string, data []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lost != nil {
		return v.lost
	}
	b, err := v.writeBlob(ctx, data)
	if err != nil {
		return err
	}
	next := v.now
	next.Kept = maps.Clone(v.now.Kept)
	if next.Kept == nil {
		next.Kept = map[string]keptBlob{}
	}
	next.Kept[name] = keptBlob{time.Now(), b}
	return v.commit(ctx, next)
}

func (v *Vault) Kept(ctx context.Context, name string) ([]byte, time.Time, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, ok := v.now.Kept[name]
	if !ok {
		return nil, time.Time{}, nil
	}
	data, err := v.readBlob(ctx, k.Blob)
	return data, k.At, err
}

// Close lets another agent have the store without a word about this one. If that does
// not work, there is a word: nothing else is lost.
func (v *Vault) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.self.Closed = true
	if v.lost == nil {
		_ = v.commit(context.Background(), v.now)
	}
	return v.kv.Close()
}
