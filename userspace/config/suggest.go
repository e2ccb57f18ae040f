package config

import (
	"maps"
	"slices"
	"strings"
)

// suggest says what to do about the unknown key name.
func suggest(name string, known fields) string {
	keys := slices.Sorted(maps.Keys(known))
	best, least := "", 3 // more than two edits are another word
	for _, k := range keys {
		if d := distance(strings.ToLower(name), k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "use " + oneOf(keys)
}

// distance returns how many letters must be put in, taken out or replaced to
// make b of a (Levenshtein), in bytes; a much longer a is just far away.
func distance(a, b string) int {
	if len(a) > len(b)+2 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
