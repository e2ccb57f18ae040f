package config

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"slices"
	"sync"

	"go.yaml.in/yaml/v3"
)

// A memo holds what services and pools of the configuration read last mean, by what
// they say and where: of one that changes little, little is to be read.
type memo struct {
	mu   sync.Mutex
	last map[digest]any
}

type digest [sha256.Size]byte

func (m *memo) get() map[digest]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

func (m *memo) set(all map[digest]any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = all
}

// remembered returns what read makes of v, which says the same whenever it is read
// beside the same defaults and registrations.
func remembered[T any](r *reader, v value, kind string, read func() T) T {
	if r.read == nil {
		return read()
	}
	h := sha256.New()
	h.Write([]byte(kind + "\x00" + v.path))
	r.digest(h, v.Node)
	if r.defaults.Node != nil {
		r.digest(h, r.defaults.Node)
	}
	for _, pool := range slices.Sorted(maps.Keys(r.registers)) {
		h.Write([]byte(pool + "\x00"))
	}
	key := digest(h.Sum(nil))
	x, ok := r.before[key].(T)
	if !ok {
		faults := len(r.faults)
		if x = read(); len(r.faults) > faults {
			return x
		}
	}
	r.read[key] = x
	return x
}

// digest writes what a node says and where.
func (r *reader) digest(h hash.Hash, n *yaml.Node) {
	b := make([]byte, 0, 64)
	b = binary.LittleEndian.AppendUint32(b, uint32(n.Kind))
	for _, x := range []int{n.Line, n.Column, len(n.Content), len(n.Value), len(n.Tag)} {
		b = binary.LittleEndian.AppendUint32(b, uint32(x))
	}
	home := r.homes[n]
	b = binary.LittleEndian.AppendUint32(b, uint32(len(home)))
	b = append(append(append(b, home...), n.Value...), n.Tag...)
	h.Write(b)
	for _, c := range n.Content {
		r.digest(h, c)
	}
}
