package config

import (
	"regexp"
	"strconv"
)

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

// sizeText writes a size as the configuration has it.
func sizeText(n int64) string {
	for _, unit := range []string{"GiB", "MiB", "KiB"} {
		if n%sizeUnits[unit] == 0 {
			return strconv.FormatInt(n/sizeUnits[unit], 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}
