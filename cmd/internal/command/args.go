package command

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// checkArgs finds what the library takes silently, or answers with a page of
// help: unknown verbs and flags, a verb that is missing, and arguments, also
// flags, where none belong. It returns args with the arguments of a verb, which its
// ArgsUsage names, behind its flags: the library looks for no flags after them.
func checkArgs(app *cli.App, args []string) ([]string, error) {
	w := &walk{path: app.Name, verbs: app.Commands, flags: slices.Concat(app.Flags, []cli.Flag{cli.VersionFlag, cli.HelpFlag})}
	for i := 0; i < len(args); i++ {
		name, hasValue, isFlag := flagName(args[i])
		if !isFlag {
			if err := w.word(args[i]); err != nil {
				return nil, err
			}
			continue
		}
		f := findFlag(w.flags, name)
		if f == nil {
			return nil, Usagef("unknown flag %s: %s", args[i], suggestFlag(name, w.flags, w.path))
		}
		w.helped = w.helped || f == cli.HelpFlag || f == cli.VersionFlag
		w.ordered = append(w.ordered, args[i])
		if !hasValue && takesValue(f) {
			if i++; i == len(args) {
				return nil, Usagef("%s needs a value; try %s --help", args[i-1], w.path)
			}
			w.ordered = append(w.ordered, args[i])
		}
	}
	switch {
	case w.helped:
	case len(w.verbs) > 0:
		return nil, Usagef("a command is missing: use %s; try %s --help", oneOf(verbNames(w.verbs)), w.path)
	case len(w.words) < len(w.wants):
		return nil, Usagef("%s is missing: %s takes %s; try %s --help", w.wants[len(w.words)], w.path, strings.Join(w.wants, " "), w.path)
	}
	return append(w.ordered, w.words...), nil
}

// A walk is how far a command line has led.
type walk struct {
	path   string // of verbs
	verbs  []*cli.Command
	flags  []cli.Flag
	helped bool
	wants  []string // names of the verb's arguments
	words  []string // these arguments
	// ordered are verbs and flags.
	ordered []string
}

// word takes what is no flag.
func (w *walk) word(arg string) error {
	switch {
	case len(w.words) < len(w.wants) && arg != "--" && arg != "-":
		w.words = append(w.words, arg)
		return nil
	case len(w.wants) > 0:
		return Usagef("unexpected argument %q: %s takes only %s and flags; try %s --help", arg, w.path, strings.Join(w.wants, " "), w.path)
	case len(w.verbs) == 0:
		return Usagef("unexpected argument %q: %s takes only flags; try %s --help", arg, w.path, w.path)
	}
	at := slices.IndexFunc(w.verbs, func(c *cli.Command) bool { return c.HasName(arg) })
	if at < 0 {
		return Usagef("unknown command %q: %s", arg, suggestVerb(arg, w.verbs))
	}
	w.enter(w.verbs[at])
	w.ordered = append(w.ordered, arg)
	return nil
}

// enter goes on with what a verb has.
func (w *walk) enter(c *cli.Command) {
	w.path += " " + c.Name
	w.flags = slices.Concat(c.Flags, []cli.Flag{cli.HelpFlag})
	w.verbs, w.wants = c.Subcommands, strings.Fields(c.ArgsUsage)
}

// flagName returns what a flag is called, and whether its value is within.
func flagName(arg string) (name string, hasValue, ok bool) {
	name, ok = strings.CutPrefix(arg, "-")
	if !ok || name == "" || arg == "--" {
		return "", false, false
	}
	name, _, hasValue = strings.Cut(strings.TrimPrefix(name, "-"), "=")
	return name, hasValue, true
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
		if !c.Hidden {
			names = append(names, c.Name)
		}
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
