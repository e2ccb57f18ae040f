package sni

import "strings"

// Any is the pattern that every name fits, and a client without one.
const Any = "*"

// Routes are what names lead to. Keys are names in lower case, such as
// example.com; *.example.com for all names below it; and [Any].
type Routes[T any] map[string]T

// Find returns what is for a name: of the patterns that fit the longest one.
func (r Routes[T]) Find(name string) (to T, ok bool) {
	if to, ok = r[name]; ok && name != Any {
		return to, true
	}
	for found := name != ""; found; {
		if _, name, found = strings.Cut(name, "."); found {
			if to, ok := r["*."+name]; ok {
				return to, true
			}
		}
	}
	to, ok = r[Any]
	return to, ok
}
