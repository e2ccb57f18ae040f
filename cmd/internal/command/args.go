package command

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// checkArgs finds what the library takes silently, or answers with a page of
// help: unknown verbs and flags, a verb that is missing, and arguments, also
// flags, where none belong. No verb takes any argument but flags.
func checkArgs(app *cli.App, args []string) error {
	path, verbs, flags := app.Name, app.Commands, slices.Concat(app.Flags, []cli.Flag{cli.VersionFlag, cli.HelpFlag})
	helped := false
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if name, ok := strings.CutPrefix(arg, "-"); ok && name != "" && arg != "--" {
			name, _, hasValue := strings.Cut(strings.TrimPrefix(name, "-"), "=")
			f := findFlag(flags, name)
			if f == nil {
				return Usagef("unknown flag %s: %s", arg, suggestFlag(name, flags, path))
			}
			helped = helped || f == cli.HelpFlag || f == cli.VersionFlag
			if !hasValue && takesValue(f) {
				if i++; i == len(args) {
					return Usagef("%s needs a value; try %s --help", arg, path)
				}
			}
			continue
		}
		if len(verbs) == 0 {
			return Usagef("unexpected argument %q: %s takes only flags; try %s --help", arg, path, path)
		}
		at := slices.IndexFunc(verbs, func(c *cli.Command) bool { return c.HasName(arg) })
		if at < 0 {
			return Usagef("unknown command %q: %s", arg, suggestVerb(arg, verbs))
		}
		path += " " + arg
		flags = slices.Concat(verbs[at].Flags, []cli.Flag{cli.HelpFlag})
		verbs = verbs[at].Subcommands
	}
	if len(verbs) > 0 && !helped {
		return Usagef("a command is missing: use %s; try %s --help", oneOf(verbNames(verbs)), path)
	}
	return nil
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

func verbNames(verbs []*cli.Command) (names []string) {
	for _, c := range verbs {
		names = append(names, c.Name)
	}
	return names
}

// suggestFlag says what could be meant by an unknown flag.
func suggestFlag(name string, flags []cli.Flag, path string) string {
	var known []string
	for _, f := range flags {
		known = append(known, f.Names()[0])
	}
	if k := nearest(name, known); k != "" {
		return "did you mean --" + k + "?"
	}
	return "try " + path + " --help"
}

// suggestVerb says what could be meant by an unknown verb.
func suggestVerb(name string, verbs []*cli.Command) string {
	known := verbNames(verbs)
	if k := nearest(name, known); k != "" {
		return "did you mean " + k + "?"
	}
	return "use " + oneOf(known)
}

// nearest returns the known word that is at most two edits away, or "".
func nearest(word string, known []string) (best string) {
	least := 3
	for _, k := range known {
		if d := distance(word, k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// oneOf joins words like "a, b or c".
func oneOf(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// distance returns how many bytes must be put in, taken out or replaced to
// make b of a.
func distance(a, b string) int {
	above := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := above[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, above[j+1]+1, row[j]+1)
		}
		above = row
	}
	return above[len(b)]
}
