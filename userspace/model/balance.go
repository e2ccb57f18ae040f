package model

import "cmp"

// Balance says how a backend is chosen for a new flow. The zero value is
// [RoundRobin].
type Balance struct {
	Method Method
	// TableSize is the number of slots of [Maglev] and [SourceHash], a prime. 0
	// means [DefaultTableSize].
	TableSize int
	// Seed makes the hashes of [Maglev] and [SourceHash] others. Balancers with
	// the same seed choose alike.
	Seed uint64
	// MaxLoad bounds the flows of a backend under [Maglev], in percent of the
	// mean by weight: who has more is passed over. 0 is no bound.
	MaxLoad int
}

// DefaultTableSize is the size of a table of slots that hashes point into.
const DefaultTableSize = 65537

// Method is a way to choose a backend.
type Method string

// The methods.
const (
	RoundRobin       Method = "round-robin"       // in turn, by weight
	Maglev           Method = "maglev"            // by a hash of the flow's addresses and ports
	SourceHash       Method = "source-hash"       // by a hash of the client's network
	Random           Method = "random"            // any, by weight
	P2C              Method = "p2c"               // of two random ones, the one with fewer flows by weight
	LeastConnections Method = "least-connections" // the one with the fewest flows by weight
	ResponseTime     Method = "response-time"     // in turn, the more often the sooner its probes succeed
)

// Hashes reports whether the method looks flows up in a Maglev table.
func (m Method) Hashes() bool { return m == Maglev || m == SourceHash }

// Serving says which backends of a service get new flows. Those with a weight of
// 0 never do.
type Serving string

// Who may serve.
const (
	ServingUp      Serving = "up"      // those that are up
	ServingZone    Serving = "zone"    // those of the balancer's zone, or the client's, that are up
	ServingPanic   Serving = "panic"   // all but backups, down or not, since too few are up
	ServingBackups Serving = "backups" // backups that are up, since nobody else is
	ServingNone    Serving = "none"    // nobody is up
)

// Slots returns the size of the table of a method that [Method.Hashes].
func (b *Balance) Slots() int { return cmp.Or(b.TableSize, DefaultTableSize) }
