package state

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// commitTries is how often an index is written until it is known that it is there.
const commitTries = 3

// An index is all that a Vault holds.
type index struct {
	Owner owner `json:"owner"` // the zero one: there was none yet
	// Commit is another one in each index.
	Commit string `json:"commit"`
	Head   Head   `json:"head"`
	// Tail are the newest entries, Pages those before, in their order.
	Tail      []json.RawMessage   `json:"tail"`
	Pages     []page              `json:"pages"`
	Documents map[string]blob     `json:"documents"`
	Kept      map[string]keptBlob `json:"kept"`
}

// An owner is the agent that has a store.
type owner struct {
	ID    string    `json:"id"`
	Host  string    `json:"host"`
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
	// Closed says that the agent has ended in good order.
	Closed bool `json:"closed,omitempty"`
}

func (o *owner) String() string {
	return fmt.Sprintf("process %d of %s", o.PID, o.Host)
}

// A page is entries in a blob, as a list in JSON.
type page struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Blob  blob   `json:"blob"`
}

// A blob is in one or several secrets, by its ID and their numbers.
type blob struct {
	ID    string `json:"id"`
	Parts int    `json:"parts"`
}

func (b blob) name(part int) string { return fmt.Sprintf("%s/%s-%d", blobsName, b.ID, part) }

type keptBlob struct {
	At   time.Time `json:"at"`
	Blob blob      `json:"blob"`
}

// blobs returns all that an index names.
func (x *index) blobs() (all []blob) {
	for i := range x.Pages {
		all = append(all, x.Pages[i].Blob)
	}
	for _, k := range x.Kept {
		all = append(all, k.Blob)
	}
	return slices.AppendSeq(all, maps.Values(x.Documents))
}

// readIndex returns the index that is there, and its version.
func (v *Vault) readIndex(ctx context.Context) (x index, version int, err error) {
	data, version, err := v.kv.Get(ctx, headName)
	if err != nil || data == nil {
		return index{}, version, err
	}
	if err := json.Unmarshal(data, &x); err != nil || x.Commit == "" {
		return index{}, 0, fmt.Errorf("%s/%s of vault has no state of an agent: use another path", v.path, headName)
	}
	return x, version, nil
}

// commit makes x the index. On an error v has what it had, and an index that comes late
// is overwritten by the next one.
func (v *Vault) commit(ctx context.Context, x index) error {
	ctx = context.WithoutCancel(ctx) // a request that is cut off may be carried out
	x.Owner, x.Commit = v.self, rand.Text()
	if err := v.write(ctx, &x); err != nil {
		return err
	}
	has := x.blobs()
	v.garbage = slices.DeleteFunc(append(v.garbage, v.now.blobs()...), func(b blob) bool { return slices.Contains(has, b) })
	v.now = x
	v.drop(ctx)
	return nil
}

// write writes an index until it is known to be there.
func (v *Vault) write(ctx context.Context, x *index) error {
	data, err := json.Marshal(x)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		if v.unsure {
			there, err := v.look(ctx, x)
			if there || err != nil {
				return err
			}
		}
		v.unsure = true
		version, err := v.kv.Put(ctx, headName, data, v.version)
		if err == nil {
			v.version, v.unsure = version, false
			return nil
		}
		if try == commitTries {
			return err
		}
	}
}

// look finds out whether x is there, and if not, what version it has to replace.
func (v *Vault) look(ctx context.Context, x *index) (there bool, err error) {
	if v.lost != nil {
		return false, v.lost
	}
	found, version, err := v.readIndex(ctx)
	if err != nil {
		return false, err
	}
	switch {
	case found.Commit == x.Commit:
		v.unsure = false
		there = true
	case found.Owner.ID != v.self.ID && found.Commit != v.now.Commit && found.Commit != "": // else somebody has deleted it
		v.lost = fmt.Errorf("%w: %s has taken over %s at %s; give each agent a path of its own",
			ErrInUse, &found.Owner, v.path, found.Owner.Since.Format(time.RFC3339))
		return false, v.lost
	}
	v.version = version
	return there, nil
}

// drop deletes what no index has any more. What fails is tried again after the next
// commit, or by the next agent.
func (v *Vault) drop(ctx context.Context) {
	for len(v.garbage) > 0 {
		b := v.garbage[0]
		for part := range b.Parts {
			if v.kv.Delete(ctx, b.name(part)) != nil {
				return
			}
		}
		v.garbage = v.garbage[1:]
	}
}

// writeBlob returns a new blob, which is garbage until an index has it.
func (v *Vault) writeBlob(ctx context.Context, data []byte) (blob, error) {
	b := blob{ID: rand.Text()}
	defer func() { v.garbage = append(v.garbage, b) }()
	for len(data) > 0 || b.Parts == 0 {
		n := min(len(data), maxPart)
		b.Parts++
		if _, err := v.kv.Put(ctx, b.name(b.Parts-1), data[:n], 0); err != nil {
			return b, err
		}
		data = data[n:]
	}
	return b, nil
}

func (v *Vault) readBlob(ctx context.Context, b blob) (all []byte, err error) {
	for part := range b.Parts {
		data, _, err := v.kv.Get(ctx, b.name(part))
		if err != nil {
			return nil, err
		}
		if data == nil {
			return nil, fmt.Errorf("%w: %s/%s of vault is missing", errBroken, v.path, b.name(part))
		}
		all = append(all, data...)
	}
	return all, nil
}
