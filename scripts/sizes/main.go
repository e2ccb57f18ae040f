// Command sizes prints what is longer than the house allows: functions over 60
// lines, files over 400, a command's main.go over 120.
//
// It reads Go, C and shell files named by its arguments and skips generated
// ones. Each finding is one line, file:line: what; the exit status is 1 if
// there is any.
package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	maxFunc = 60
	maxFile = 400
	maxMain = 120
)

// generated is the line by which Go's tools know a file that a program wrote.
var generated = regexp.MustCompile(`(?m)^(//|/\*) Code generated .* DO NOT EDIT\.`)

func main() {
	var found []string
	for _, path := range os.Args[1:] {
		f, err := check(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, "sizes:", err)
			os.Exit(2)
		}
		found = append(found, f...)
	}
	for _, line := range found {
		fmt.Println(line)
	}
	if len(found) > 0 {
		os.Exit(1)
	}
}

// check returns the findings of one file.
func check(path string) ([]string, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	if generated.Match(src) {
		return nil, nil
	}
	var found []string
	if n, most := bytes.Count(src, []byte("\n")), fileLimit(path); n > most {
		found = append(found, fmt.Sprintf("%s:1: file has %d lines, more than %d", path, n, most))
	}
	var funcs []function
	switch filepath.Ext(path) {
	case ".go":
		if funcs, err = goFuncs(path, src); err != nil {
			return nil, err
		}
	case ".c", ".h":
		funcs = cFuncs(string(src))
	}
	for _, f := range funcs {
		if f.lines > maxFunc {
			found = append(found, fmt.Sprintf("%s:%d: function %s has %d lines, more than %d", path, f.line, f.name, f.lines, maxFunc))
		}
	}
	return found, nil
}

func fileLimit(path string) int {
	if filepath.Base(path) == "main.go" && strings.Contains(filepath.ToSlash(path), "cmd/") {
		return maxMain
	}
	return maxFile
}

// function is where a function stands and how long it is, braces included.
type function struct {
	name  string
	line  int
	lines int
}

// goFuncs returns every declared function. A literal counts as part of the
// function that it stands in, except at the top level.
func goFuncs(path string, src []byte) ([]function, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse source: %w", err)
	}
	var funcs []function
	ast.Inspect(file, func(n ast.Node) bool {
		name := ""
		switch n := n.(type) {
		case *ast.FuncDecl:
			name = n.Name.Name
		case *ast.FuncLit:
			name = "literal"
		default:
			return true
		}
		begin, end := fset.Position(n.Pos()).Line, fset.Position(n.End()).Line
		funcs = append(funcs, function{name, begin, end - begin + 1})
		return false
	})
	return funcs, nil
}

// cName finds the identifier before a function's parameters.
var cName = regexp.MustCompile(`(\w+)\(`)

// cFuncs returns every function of a C file in kernel style: its body's braces
// stand alone in the first column.
func cFuncs(src string) []function {
	var funcs []function
	head, begin := "", 0
	for i, line := range strings.Split(src, "\n") {
		switch {
		case begin > 0 && strings.HasPrefix(line, "}"):
			funcs = append(funcs, function{head, begin, i + 1 - begin + 1})
			begin = 0
		case begin == 0 && line == "{":
			begin = i + 1
		case begin == 0 && line != "" && !strings.ContainsAny(line[:1], " \t*/#"):
			if m := cName.FindStringSubmatch(line); m != nil {
				head = m[1]
			}
		}
	}
	return funcs
}
