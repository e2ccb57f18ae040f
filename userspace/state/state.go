// Package state keeps what the agent has to know after a restart: the history of its
// configuration, the edits in force, and what it last saw of backends.
//
// A [Store] is where that is: [OpenFile] keeps it in a file, [OpenVault] in a KV store
// of Vault or OpenBao, and [NewMemory] nowhere. A [History] is what they hold. The
// package knows nothing of what a configuration means.
package state

import (
	"context"
	"errors"
	"os"
	"time"

	"fairlead/userspace/control"
)

// Errors that callers can tell apart with [errors.Is].
var (
	// ErrInUse says that another agent has the store.
	ErrInUse = errors.New("another agent runs")
	// ErrSchema says that a later version has written the store.
	ErrSchema = errors.New("state of a later version")
)

// schema is the version of what stores hold.
const schema = 1

// DefaultDir returns where the file is when nothing else says so: what systemd gives,
// /var/lib/fairlead for root, and else [Off].
func DefaultDir() string {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/fairlead"
	}
	return Off
}

// Off in place of a directory keeps everything in memory alone.
const Off = "off"

// A Store keeps entries by their numbers, documents by their digests, and a few other
// things by their names. It may be used by several goroutines.
type Store interface {
	// Head returns what was appended last; a zero one from an empty store.
	Head(ctx context.Context) (Head, error)
	// Append adds entries and documents, drops those that are not in h any more,
	// and makes h the head: all of it or, with an error, nothing. What it has
	// added survives the end of the process, and of the host.
	Append(ctx context.Context, h Head, entries []Entry, documents map[string][]byte) error
	// Entries returns those from first to last, which are between the head's.
	Entries(ctx context.Context, first, last uint64) ([]Entry, error)
	Document(ctx context.Context, digest string) ([]byte, error)
	// Keep stores data by a name, Kept returns it and since when it is there; nil if
	// there is none.
	Keep(ctx context.Context, name string, data []byte) error
	Kept(ctx context.Context, name string) (data []byte, at time.Time, err error)
	// Most is how many revisions it is made for, at most.
	Most() int
	Close() error
}

// A Head says what a store holds.
type Head struct {
	Schema int `json:"schema"`
	// First and Last are the numbers of its entries; 0 if there are none.
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	// Documents are those that entries have as their base, in the order of these.
	Documents []Use `json:"documents"`
}

// A Use says from which entry on a document was the base.
type Use struct {
	Digest string `json:"digest"`
	Since  uint64 `json:"since"`
}

// An Entry is a revision as it is kept: what became of the edits in force.
type Entry struct {
	control.Revision
	// Base is the digest of the document that the edits are on top of, which stands
	// in the place of the file if it is Applied.
	Base    string `json:"base"`
	Applied bool   `json:"applied,omitempty"`
	// Of the edits before those at the indexes of Drop went, and Add came behind the
	// rest; all of them went if Add is the Whole.
	Drop  []int          `json:"drop,omitempty"`
	Add   []control.Edit `json:"add,omitempty"`
	Whole bool           `json:"whole,omitempty"`
	// Restated are the indexes of edits that apply the document of Base, which is
	// kept with the documents alone. [History.Range] gives them back what they say.
	Restated []int `json:"restated,omitempty"`
}
