package refmodel

const (
	portStep    = 7919
	portTries   = 8
	sourceTries = 16
)

// leaving is step 10.2: the tuple that the packets of a new flow leave with,
// which is t if nothing is in the way. Not ok says that there is none.
func (a *attempt) leaving(t Tuple, b Backend) (Tuple, bool) {
	if a.s.Flags&FlagFullNAT != 0 || t.mixed() {
		return a.sourceOfOurs(t, b.Sources)
	}
	twin := a.Find(t.Reverse())
	if twin == nil {
		return t, true
	}
	if a.holds(twin) && twin.TwinKey() != a.p.tuple {
		return a.anotherPort(t)
	}
	a.deleteBoth(twin.Key)
	return t, true
}

// anotherPort is t with a source port that no flow has towards the backend.
func (a *attempt) anotherPort(t Tuple) (Tuple, bool) {
	for k := 1; k <= portTries; k++ {
		t.SPort = uint16(1024 + (int(a.p.tuple.SPort)+portStep*k)%64512)
		if twin := a.Find(t.Reverse()); twin != nil {
			if a.holds(twin) {
				continue
			}
			a.deleteBoth(twin.Key)
		}
		return t, true
	}
	return t, false
}

// sourceOfOurs is t with a source of this run that no other flow has.
func (a *attempt) sourceOfOurs(t Tuple, run Run) (Tuple, bool) {
	h := a.hash(a.p.tuple)
	x, width := uint32(h), uint32(h>>32)|1
	for k := range uint32(2 * sourceTries) {
		y := x + width*(k%sourceTries)
		if run.Length == 0 {
			return t, false
		}
		at := run.Offset + y%run.Length
		if int64(at) >= int64(len(a.Snat)) {
			return t, false
		}
		t.Src = a.Snat[at]
		first, ports := a.Control.SnatPort, uint32(a.Control.SnatPorts)
		if t.Src.Is4In6() {
			first, ports = a.Control.MixedPort, uint32(a.Control.MixedPorts)
		}
		if ports == 0 || t.mixed() {
			return t, false
		}
		t.SPort = first + uint16(y/run.Length%ports)
		twin := a.Find(t.Reverse())
		if twin != nil && a.holds(twin) && twin.TwinKey() != a.p.tuple {
			continue
		}
		if twin != nil && a.counts(twin) && twin.over() && k < sourceTries {
			continue // the backend may still remember it
		}
		a.forget(t.Reverse())
		return t, true
	}
	return t, false
}
