package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"fairlead/userspace/control"
)

// A Peek is what a store held when somebody looked.
type Peek struct {
	Revision control.Revision
	Config   Config
	Document []byte // the base
}

// PeekFile looks at the store in a directory, which an agent may be writing. The error
// wraps [fs.ErrNotExist] if there is none, or nothing in it yet.
func PeekFile(ctx context.Context, dir string) (*Peek, error) {
	path := filepath.Join(dir, fileName)
	return peek(ctx, path, func() (Store, error) {
		content, err := readFile(path)
		return looked{content: content}, err
	})
}

// PeekVault looks at the store at a path of a KV store, which messages name, and closes
// kv. An agent may be writing it, and keeps it. Errors are as those of [PeekFile].
func PeekVault(ctx context.Context, kv KV, path string) (p *Peek, err error) {
	p, err = peek(ctx, path, func() (Store, error) {
		v := &Vault{kv: kv, path: path}
		_, err := v.survey(ctx)
		return v, err
	})
	if cerr := kv.Close(); err == nil && cerr != nil {
		return nil, fmt.Errorf("look at state: %w", cerr)
	}
	return p, err
}

// peek looks at what read returns, a store that is not written to.
func peek(ctx context.Context, path string, read func() (Store, error)) (p *Peek, err error) {
	const tries = 5 // what is read may change meanwhile
	for range tries {
		var s Store
		if s, err = read(); err == nil {
			p, err = lastOf(ctx, path, s)
		}
		if !errors.Is(err, errBroken) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("look at state: %w", err)
	}
	return p, nil
}

func lastOf(ctx context.Context, path string, s Store) (*Peek, error) {
	h, err := NewHistory(ctx, s, DefaultLimit)
	if err != nil {
		return nil, err
	}
	p := &Peek{}
	if p.Revision, p.Config = h.Last(); p.Revision.Number == 0 {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	p.Document, err = h.Document(ctx, p.Config.Base)
	return p, err
}

// looked is what was read of a file, for a History that only reads.
type looked struct {
	Store
	content map[string]map[string][]byte
}

func (looked) Most() int { return DefaultLimit }

func (l looked) get(bucket, key []byte) ([]byte, error) {
	sealed := l.content[string(bucket)][string(key)]
	if sealed == nil {
		return nil, nil
	}
	return open(key, sealed)
}

func (l looked) Head(context.Context) (h Head, err error) {
	data, err := l.get(bucketMeta, keyHead)
	if data == nil || err != nil {
		return h, err
	}
	return h, json.Unmarshal(data, &h)
}

func (l looked) Entries(_ context.Context, first, last uint64) (all []Entry, err error) {
	for n := first; n <= last; n++ {
		var e Entry
		data, err := l.get(bucketEntries, numberKey(n))
		if err == nil {
			err = json.Unmarshal(data, &e)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func (l looked) Document(_ context.Context, digest string) ([]byte, error) {
	data, err := l.get(bucketDocuments, []byte(digest))
	if data == nil && err == nil {
		err = errNoDocument
	}
	return data, err
}
