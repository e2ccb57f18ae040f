// Command leakchecked prints which packages have tests that nobody looks at for leaks.
//
// It reads the test files that its arguments name. Those of one directory must have a
// TestMain that calls leak.Each of fairlead/testenv/leak. Each finding is one line,
// directory: what; the exit status is 1 if there is any.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

const checks = "fairlead/testenv/leak"

func main() {
	found, err := unchecked(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "leakchecked:", err)
		os.Exit(2)
	}
	for _, dir := range found {
		fmt.Printf("%s: no TestMain calls leak.Each of %s\n", dir, checks)
	}
	if len(found) > 0 {
		os.Exit(1)
	}
}

// unchecked returns the directories of test files that lack it, in order.
func unchecked(paths []string) ([]string, error) {
	dirs := map[string]bool{}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse test: %w", err)
		}
		dir := filepath.Dir(path)
		dirs[dir] = dirs[dir] || imports(file) && slices.ContainsFunc(file.Decls, callsEach)
	}
	maps.DeleteFunc(dirs, func(_ string, checked bool) bool { return checked })
	return slices.Sorted(maps.Keys(dirs)), nil
}

// imports reports whether a file imports the package by its own name.
func imports(file *ast.File) bool {
	return slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool {
		return i.Name == nil && i.Path.Value == strconv.Quote(checks)
	})
}

// callsEach reports whether something is a TestMain that calls leak.Each.
func callsEach(d ast.Decl) (calls bool) {
	f, ok := d.(*ast.FuncDecl)
	if !ok || f.Recv != nil || f.Name.Name != "TestMain" {
		return false
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			of, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := of.X.(*ast.Ident)
			calls = calls || ok && x.Name == "leak" && of.Sel.Name == "Each"
		}
		return true
	})
	return calls
}
