package config

import (
	"cmp"
	"net/netip"
	"regexp"
	"strconv"
	"time"

	"fairlead/userspace/model"
)

// Bounds of what clients of HTTP services may take.
const (
	minHeaderSize  = 1 << 10
	maxHeaderSize  = 1 << 20
	maxBodySize    = 1 << 40
	maxConnections = 1_000_000
	maxRate        = 1_000_000
)

// boundsFields adds the keys that bound what clients take.
func (r *reader) boundsFields(known fields, h *httpKeys) {
	b := &h.http.Bounds
	known["max-header"] = func(v value) { r.smallSize(v, &b.MaxHeader, minHeaderSize) }
	known["max-uri"] = func(v value) { r.smallSize(v, &b.MaxURI, 1) }
	known["max-body"] = func(v value) { r.size(v, &h.maxBody, 1, maxBodySize) }
	known["max-connections"] = func(v value) { r.number(v, &b.MaxConnections, 1, maxConnections) }
	known["rate-limit"] = func(v value) { r.rate(v, &b.Rate) }
}

// fillBounds puts defaults where the file says nothing.
func fillBounds(b *model.Bounds) {
	b.MaxHeader = cmp.Or(b.MaxHeader, model.DefaultMaxHeader)
	b.HeaderTimeout = cmp.Or(b.HeaderTimeout, model.DefaultHeaderTimeout)
	b.KeepAlive = cmp.Or(b.KeepAlive, model.DefaultKeepAlive)
}

// clientTimeouts reads the time-outs of a service.
func (r *reader) clientTimeouts(v value, h *httpKeys) {
	known := r.timeoutFields(&h.timeouts)
	known["header"] = r.time(&h.http.Bounds.HeaderTimeout)
	known["keep-alive"] = r.time(&h.http.Bounds.KeepAlive)
	r.object(v, known)
}

// rate reads how many requests each client may make.
func (r *reader) rate(v value, l *model.Rate) {
	l.Per = time.Second
	before := len(r.faults)
	met := r.object(v, fields{
		"rate":  func(v value) { r.number(v, &l.Requests, 1, maxRate) },
		"per":   func(v value) { r.duration(v, &l.Per, minTimeout, maxTimeout) },
		"burst": func(v value) { r.number(v, &l.Burst, 1, maxRate) },
	})
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "rate", "is missing: give the requests that each client may make in a second, such as 100")
	}
	if l.Burst == 0 {
		l.Burst = min(2*l.Requests, maxRate)
	}
}

// access reads who may make requests.
func (r *reader) access(v value, a *model.Access) {
	seen := map[netip.Prefix]listed{}
	read := func(all *[]netip.Prefix, list string) func(value) {
		return func(v value) {
			if !r.list(v, func(v value) { r.accessNetwork(v, all, list, seen) }) || len(v.Content) > 0 {
				return
			}
			r.fault(v, "is empty: list at least one network, such as 198.51.100.0/24, or remove the key")
		}
	}
	before := len(r.faults)
	met := r.object(v, fields{"allow": read(&a.Allow, "allow"), "deny": read(&a.Deny, "deny")})
	if len(met) == 0 && len(r.faults) == before {
		r.fault(v, "is empty: list networks under allow or deny, or remove the key")
	}
}

func (r *reader) accessNetwork(v value, all *[]netip.Prefix, list string, seen map[netip.Prefix]listed) {
	p, ok := r.network(v)
	if !ok {
		return
	}
	if at, twice := seen[p]; twice {
		r.fault(v, "%s stands in line %d, under %s, already: remove one of the two", quote(v.Value), at.line, at.list)
		return
	}
	seen[p] = listed{list, v.Line}
	*all = append(*all, p)
}

var (
	sizeSyntax = regexp.MustCompile(`^([0-9]{1,13})(|KiB|MiB|GiB)$`)
	sizeUnits  = map[string]int64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
)

// size reads a number of bytes such as 64KiB, from low to high, into p.
func (r *reader) size(v value, p *int64, low, high int64) bool {
	s, ok := r.text(v)
	if !ok {
		return false
	}
	m := sizeSyntax.FindStringSubmatch(s)
	if m == nil {
		r.fault(v, "%s is not a size: write it like 512, 64KiB, 10MiB or 1GiB", quote(s))
		return false
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // digits by the expression
	unit := sizeUnits[m[2]]
	if n > high/unit || n*unit < low {
		r.fault(v, "%s is not from %s to %s", quote(s), sizeText(low), sizeText(high))
		return false
	}
	*p = n * unit
	return true
}

// smallSize reads a size of at most a whole header.
func (r *reader) smallSize(v value, p *int, low int64) {
	var n int64
	if r.size(v, &n, low, maxHeaderSize) {
		*p = int(n)
	}
}

// sizeText writes a size as the configuration has it.
func sizeText(n int64) string {
	for _, unit := range []string{"GiB", "MiB", "KiB"} {
		if n%sizeUnits[unit] == 0 {
			return strconv.FormatInt(n/sizeUnits[unit], 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}
