package accesslog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// JSON is the format of lines that are JSON objects, without what is empty.
const JSON = "json"

// A Format is how a record is written. The zero value writes JSON.
type Format struct{ parts []part }

// A part is a text that stands as it is, or a field.
type part struct {
	text  string
	field *field
}

// Errors of templates.
var (
	errBrace = errors.New("has a { or } by itself: write {{ or }} for one that is to stand there, or {field}")
	errPlain = errors.New("has no field in it: write json, or a template such as {client} {method} {path} {status}")
)

// ParseFormat reads a format: json, or a template with {field} in it; {{ and }} are
// the braces themselves. The error goes on where a quotation of text ends.
func ParseFormat(text string) (Format, error) {
	var f Format
	if text == JSON {
		return f, nil
	}
	for rest := text; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			f.add(rest)
			break
		}
		f.add(rest[:i])
		if rest = rest[i:]; len(rest) > 1 && rest[1] == rest[0] {
			f.add(rest[:1])
			rest = rest[2:]
			continue
		}
		name, after, ok := strings.Cut(rest[1:], "}")
		if rest[0] == '}' || !ok {
			return Format{}, errBrace
		}
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if at < 0 {
			return Format{}, fmt.Errorf("has {%s}, which is no field: use %s", name, strings.Join(Fields(), ", "))
		}
		f.parts = append(f.parts, part{field: &fields[at]})
		rest = after
	}
	if !slices.ContainsFunc(f.parts, func(p part) bool { return p.field != nil }) {
		return Format{}, errPlain
	}
	return f, nil
}

func (f *Format) add(text string) {
	if text != "" {
		f.parts = append(f.parts, part{text: text})
	}
}

// Fields returns the names of all fields.
func Fields() (names []string) {
	for i := range fields {
		names = append(names, fields[i].name)
	}
	return names
}

// appendTo appends the line of a record.
func (f *Format) appendTo(line []byte, r *Record) []byte {
	if f.parts == nil {
		return append(appendJSON(line, r), '\n')
	}
	for _, p := range f.parts {
		if p.field == nil {
			line = append(line, p.text...)
			continue
		}
		line = appendPlain(line, p.field.value(r))
	}
	return append(line, '\n')
}

func appendJSON(line []byte, r *Record) []byte {
	line = append(line, '{')
	for i := range fields {
		f := &fields[i]
		v := f.value(r)
		if v == "" {
			continue
		}
		if line[len(line)-1] != '{' {
			line = append(line, ',')
		}
		line = append(append(append(line, '"'), f.name...), '"', ':')
		if !f.text {
			line = append(line, v...)
			continue
		}
		line = append(line, '"')
		line = append(appendText(line, v, `\u00%02x`), '"')
	}
	return append(line, '}')
}

// appendPlain appends what a client may have chosen, so that it cannot end the line
// or a quotation.
func appendPlain(line []byte, v string) []byte {
	if v == "" {
		return append(line, '-')
	}
	return appendText(line, v, `\x%02x`)
}

// appendText appends a text that may stand in quotes, and has control characters as
// control says.
func appendText(line []byte, v, control string) []byte {
	if !utf8.ValidString(v) {
		v = strings.ToValidUTF8(v, "\ufffd")
	}
	for i := range len(v) {
		switch c := v[i]; {
		case c == '"' || c == '\\':
			line = append(line, '\\', c)
		case c < ' ' || c == 0x7f:
			line = fmt.Appendf(line, control, c)
		default:
			line = append(line, c)
		}
	}
	return line
}
