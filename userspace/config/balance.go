package config

import (
	"math"
	"math/big"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"fairlead/userspace/model"
)

// Bounds of how backends are chosen.
const (
	minTableSize, maxTableSize = 7, 1_000_003
	minMaxLoad, maxMaxLoad     = 101, 1000
	maxSlowStart               = time.Hour
)

var methods = []model.Method{
	model.RoundRobin, model.Maglev, model.SourceHash, model.Random, model.P2C, model.LeastConnections, model.ResponseTime,
}

// methodKeys names the methods that each option belongs to.
var methodKeys = map[string][]model.Method{
	"table-size": {model.Maglev, model.SourceHash},
	"seed":       {model.Maglev, model.SourceHash},
	"prefix":     {model.SourceHash},
	"max-load":   {model.Maglev},
}

// choice reads how backends are chosen; values have no node if they are not
// there. Address, backends and check of the service are known.
func (r *reader) choice(balance, affinity value, s *service) {
	prefix := r.balance(balance, s)
	if affinity.Node != nil {
		r.affinity(affinity, s, prefix)
	}
	if s.Balance.Method != model.SourceHash && s.Affinity == 0 {
		s.SourcePrefix = 0
	}
}

// balance reads a method, by itself or with options, and returns the prefix
// among them.
func (r *reader) balance(v value, s *service) (prefix value) {
	b := &s.Balance
	bounds := limitPrefixes[family(s.Listen.Addr())]
	s.SourcePrefix = bounds.usual
	at := v
	switch {
	case v.Node == nil:
		return prefix
	case v.Kind == yaml.MappingNode:
		before := len(r.faults)
		met := r.object(v, fields{
			"method": func(v value) {
				at = v
				enum(r, v, &b.Method, methods)
			},
			"table-size": func(v value) { r.tableSize(v, s) },
			"seed":       func(v value) { r.seed(v, &b.Seed) },
			"prefix": func(v value) {
				prefix = v
				if s.http.named {
					r.fault(v, "does not belong to a pool, whose clients are of both families: remove it")
					return
				}
				r.number(v, &s.SourcePrefix, bounds.least, bounds.most)
			},
			"max-load": func(v value) { r.number(v, &b.MaxLoad, minMaxLoad, maxMaxLoad) },
		})
		r.require(v, met, "method", "is missing: use "+oneOf(methods))
		if len(r.faults) > before {
			return prefix
		}
		for key, place := range met {
			if of := methodKeys[key]; of != nil && !slices.Contains(of, b.Method) {
				r.fault(place, "does not belong to %s: remove it, or use %s", b.Method, oneOf(of))
			}
		}
	case !enum(r, v, &b.Method, methods):
		return prefix
	}
	r.fits(at, s)
	return prefix
}

// fits finds a method that its service cannot have, and fills in the size of its
// table.
func (r *reader) fits(v value, s *service) {
	b := &s.Balance
	if b.Method == model.ResponseTime && s.Health.Type == model.CheckNone && s.Forward != model.ForwardHTTP {
		r.fault(v, "goes by how long probes take, but the service has no check: give it one under health, or use another method")
	}
	if !b.Method.Hashes() {
		return
	}
	if b.TableSize = b.Slots(); b.TableSize < len(s.Backends) {
		r.fault(v, "has a table of %d slots for %d backends: give it a table-size of at least a hundred for each", b.TableSize, len(s.Backends))
	}
}

func (r *reader) tableSize(v value, s *service) {
	if !r.number(v, &s.Balance.TableSize, minTableSize, maxTableSize) {
		return
	}
	isPrime := func(n int) bool { return big.NewInt(int64(n)).ProbablyPrime(0) } // exact below 2^64
	size := s.Balance.TableSize
	if isPrime(size) {
		return
	}
	next := size
	for !isPrime(next) {
		next++
	}
	r.fault(v, "%d is not a prime, which makes every backend's order of slots cover the table: use %d", size, next)
}

func (r *reader) seed(v value, seed *uint64) {
	n := 0
	r.number(v, &n, 0, math.MaxInt)
	*seed = uint64(n)
}

// affinity reads how long clients keep their backend. prefix is that of the
// service's balance, if there is one.
func (r *reader) affinity(v value, s *service, prefix value) {
	bounds := limitPrefixes[family(s.Listen.Addr())]
	before := len(r.faults)
	met := r.object(v, fields{
		"source": func(v value) {
			if r.duration(v, &s.Affinity, minTimeout, maxTimeout) && s.Affinity%time.Second != 0 {
				r.fault(v, "%s is not in whole seconds: use %s", quote(v.Value), span(s.Affinity.Truncate(time.Second)))
			}
		},
		"prefix": func(v value) {
			length := s.SourcePrefix
			if !r.number(v, &length, bounds.least, bounds.most) {
				return
			}
			if prefix.Node != nil && length != s.SourcePrefix {
				r.fault(v, "%d is not the prefix under balance in line %d: a service has one for both", length, prefix.Line)
			}
			s.SourcePrefix = length
		},
	})
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "source", "is missing: give the time for which clients come back to the same backend, such as 10m")
	}
}
