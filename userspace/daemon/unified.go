package daemon

import (
	"fmt"
	"strings"
)

// besideLines says how many lines a difference shows before and after what differs.
const besideLines = 3

// maxTable bounds the table by which lines are compared, in its elements. Larger
// parts count as different in all lines.
const maxTable = 4 << 20

// A line of a difference: ' ' is in both texts, '-' in the first, '+' in the second.
type line struct {
	mark byte
	text string
}

// unified returns what differs in two texts, as diff -u does but for the names of
// files; "" if nothing does.
func unified(a, b string) string {
	all := compare(strings.SplitAfter(a, "\n"), strings.SplitAfter(b, "\n"))
	shown := make([]bool, len(all))
	for i, l := range all {
		if l.mark == ' ' {
			continue
		}
		for k := max(0, i-besideLines); k < min(len(all), i+besideLines+1); k++ {
			shown[k] = true
		}
	}
	var out strings.Builder
	first, second := 1, 1 // lines
	for i := 0; i < len(all); {
		if !shown[i] {
			first, second, i = first+1, second+1, i+1
			continue
		}
		end := i
		var left, right int
		var hunk strings.Builder
		for ; end < len(all) && shown[end]; end++ {
			l := all[end]
			if l.mark != '+' {
				left++
			}
			if l.mark != '-' {
				right++
			}
			if l.text != "" { // behind the last line break
				fmt.Fprintf(&hunk, "%c%s\n", l.mark, strings.TrimSuffix(l.text, "\n"))
			}
		}
		fmt.Fprintf(&out, "@@ -%d,%d +%d,%d @@\n%s", first, left, second, right, hunk.String())
		first, second, i = first+left, second+right, end
	}
	return out.String()
}

// compare returns the lines of both texts: as many as can be are in both.
func compare(a, b []string) (all []line) {
	var head, tail []line
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, line{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, line{' ', a[len(a)-1]})
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	all = append(head, middle(a, b)...)
	for i := range tail {
		all = append(all, tail[len(tail)-1-i])
	}
	return all
}

// middle compares by the longest common subsequence.
func middle(a, b []string) (all []line) {
	common := make([][]int, len(a)+1) // length of the longest one from here on
	if len(a)*len(b) > maxTable {
		common = nil
	}
	for i := len(common) - 1; i >= 0; i-- {
		common[i] = make([]int, len(b)+1)
		for k := len(b) - 1; k >= 0 && i < len(a); k-- {
			if a[i] == b[k] {
				common[i][k] = common[i+1][k+1] + 1
			} else {
				common[i][k] = max(common[i+1][k], common[i][k+1])
			}
		}
	}
	for i, k := 0, 0; i < len(a) || k < len(b); {
		switch {
		case i < len(a) && k < len(b) && common != nil && a[i] == b[k]:
			all = append(all, line{' ', a[i]})
			i, k = i+1, k+1
		case k == len(b) || i < len(a) && (common == nil || common[i+1][k] >= common[i][k+1]):
			all = append(all, line{'-', a[i]})
			i++
		default:
			all = append(all, line{'+', b[k]})
			k++
		}
	}
	return all
}
