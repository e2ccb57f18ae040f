package httpcache

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// directives are those of Cache-Control, by their names in lower case.
type directives map[string]string

// invalid is the value of a directive that is given twice, in two ways.
const invalid = "?"

// maxSeconds is what longer times are taken for (RFC 9111, section 1.2.2).
const maxSeconds = 1 << 31

func parseControl(lines []string) directives {
	d := directives{}
	for _, part := range splitList(lines) {
		name, value, _ := strings.Cut(part, "=")
		name, value = strings.ToLower(name), unquote(value)
		had, again := d[name]
		switch {
		case !again || had == value:
			d[name] = value
		case name != "no-cache" && name != "private":
			d[name] = invalid
		case had == "" || value == "":
			d[name] = "" // all fields are more than some
		default:
			d[name] = had + "," + value
		}
	}
	return d
}

// has reports whether a directive is there.
func (d directives) has(name string) bool {
	_, ok := d[name]
	return ok
}

// whole reports whether no-cache or private is there for all of the answer.
func (d directives) whole(name string) bool {
	value, ok := d[name]
	return ok && value == ""
}

// seconds returns the time that a directive gives, 0 if it is none.
func (d directives) seconds(name string) (t time.Duration, ok bool) {
	value, ok := d[name]
	t, _ = parseSeconds(value)
	return t, ok
}

// parseSeconds reads a number of seconds, digits only.
func parseSeconds(s string) (t time.Duration, ok bool) {
	if s == "" {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int(c-'0'), maxSeconds)
	}
	return time.Duration(n) * time.Second, true
}

// splitList returns the elements of a list in several lines, without those that
// are empty. Commas in quotes divide nothing.
func splitList(lines []string) (all []string) {
	text := strings.Join(lines, ",")
	begin, quoted := 0, false
	add := func(end int) {
		if part := strings.TrimSpace(text[begin:end]); part != "" {
			all = append(all, part)
		}
		begin = end + 1
	}
	for i := 0; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == ',' && !quoted:
			add(i)
		}
	}
	if begin <= len(text) {
		add(len(text))
	}
	return all
}

// unquote returns what a quoted string says, and anything else as it is.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' && i+1 < len(s)-1 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// heuristic are the statuses that may be kept without being told how long (RFC
// 9110, section 15.1), but for 206.
var heuristic = []int{200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501}

// allow reports whether an answer's status and directives let a shared cache
// store it.
func (d directives) allow(status int, h http.Header) bool {
	known := http.StatusText(status) != ""
	switch {
	case status < 200 || status == http.StatusPartialContent || status == http.StatusNotModified:
		return false
	case d.has("must-understand"):
		if !known {
			return false
		}
	case d.has("no-store"):
		return false
	}
	if d.whole("private") {
		return false
	}
	return d.has("public") || d.has("max-age") || d.has("s-maxage") || len(h["Expires"]) > 0 || slices.Contains(heuristic, status)
}

// shared reports whether a server says that an answer is for others, too, to
// which it would not be by itself.
func (d directives) shared() bool { return d.has("public") || d.has("s-maxage") }
