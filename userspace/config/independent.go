package config

import (
	"cmp"

	"fairlead/userspace/control"
)

// Independent reports whether requests can be judged by what they make together: it
// is good just if each of them is, one after the other. That is so where each is about
// weights of backends that no other is about, or about backends of pools that no other
// is about.
func Independent(requests [][]control.Edit) bool {
	type owner struct {
		first    int            // the request that began with it
		backends map[string]int // by request
		whole    bool
	}
	owners := map[string]*owner{}
	for i, edits := range requests {
		for k := range edits {
			e := &edits[k]
			if !ofBackends(e.Op) {
				return false
			}
			name := cmp.Or(e.Service, e.Pool)
			o := owners[name]
			if o == nil {
				o = &owner{first: i, backends: map[string]int{}}
				owners[name] = o
			}
			weighs := e.Op == control.OpSetWeight || e.Op == control.OpDrain || e.Op == control.OpUndrain
			if o.whole = o.whole || !weighs; o.whole && len(o.backends) > 0 && o.first != i {
				return false
			}
			backend := plainBackend(e.Backend)
			if rest := hostPort(backend); rest != "" {
				backend = rest
			}
			if by, ok := o.backends[backend]; ok && by != i {
				return false
			}
			o.backends[backend] = i
		}
	}
	return true
}
