package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parseYAML returns the top node of the only document in data.
func parseYAML(name string, data []byte) (*yaml.Node, *Fault) {
	var doc, second yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	err := d.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && isNull(doc.Content[0]) {
		return nil, &Fault{File: name, Line: 1, Column: 1, Text: "the file is empty: list at least one entry under services"}
	}
	if err == nil {
		err = d.Decode(&second)
	}
	switch {
	case errors.Is(err, io.EOF):
		return doc.Content[0], nil
	case err == nil:
		return nil, &Fault{File: name, Line: second.Line, Column: second.Column, Text: "a second document begins here: write one document without ---"}
	}
	return nil, syntaxFault(name, data, err)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxFault says where data stops being YAML. The library's own line is
// missing, one too small or that of an enclosing block for many mistakes, so
// this looks for the longest beginning of whole lines that it accepts: the
// mistake is in the next line or, if the library says so, further on.
func syntaxFault(name string, data []byte, err error) *Fault {
	const tries = 50 // the search takes a parse for each line
	prefix := yamlError.FindStringSubmatch(err.Error())
	line := 1
	if prefix != nil && prefix[1] != "" {
		line, _ = strconv.Atoi(prefix[1]) // digits by the expression
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	last := min(bytes.Count(data[:consumed(data)], []byte("\n"))+1, len(lines))
	for n := last; n > line && n > last-tries; n-- {
		if wellFormed(bytes.Join(lines[:n-1], nil)) {
			line = n
			break
		}
	}
	line = min(line, len(lines))
	text := strings.TrimRight(string(lines[line-1]), " \t\r\n")
	near := strings.TrimLeft(text, " \t")
	where := "near " + quote(near)
	if near == "" {
		where = "at the end"
	}
	why := err.Error()
	if prefix != nil {
		why = why[len(prefix[0]):]
	}
	return &Fault{
		File: name, Line: line, Column: utf8.RuneCountInString(text) - utf8.RuneCountInString(near) + 1,
		Text: "not YAML " + where + ": " + why + "; check indentation, colons and quotes",
	}
}

// wellFormed reports whether data is YAML.
func wellFormed(data []byte) bool { return yamlEnd(bytes.NewReader(data)) }

// consumed returns how far into data the library reads before it gives up, a
// few characters past the mistake.
func consumed(data []byte) int {
	r := &slowReader{data: data}
	yamlEnd(r)
	return r.n
}

// yamlEnd reports whether r is YAML to its end.
func yamlEnd(r io.Reader) bool {
	d := yaml.NewDecoder(r)
	for {
		var n yaml.Node
		if err := d.Decode(&n); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// A slowReader hands out one byte at a time, so that n tells how many its
// reader really wanted.
type slowReader struct {
	data []byte
	n    int
}

func (r *slowReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.n == len(r.data) {
		return 0, io.EOF
	}
	p[0] = r.data[r.n]
	r.n++
	return 1, nil
}
