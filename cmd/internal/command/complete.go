package command

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeVerb is what the scripts of [CompletionCommand] call. It is answered before
// the library sees it, which would run the command that is being typed.
const completeVerb = "__complete"

// A ChoiceFlag has one of some words as its value.
type ChoiceFlag struct {
	*cli.StringFlag
	Words []string
}

// A candidate is what a word may become.
type candidate struct{ word, about string }

// complete prints what the last of words may become, for a shell, which is the first.
// It prints nothing where a file or something unknown is wanted.
func complete(app *cli.App, words []string) {
	if len(words) < 2 {
		return
	}
	for _, c := range candidates(app, words[1:]) {
		fmt.Fprintln(app.Writer, c.forShell(words[0]))
	}
}

// forShell returns the candidate as a shell's script wants it.
func (c candidate) forShell(shell string) string {
	about, _, _ := strings.Cut(c.about, "\n")
	switch shell {
	case "zsh":
		return strings.ReplaceAll(c.word, ":", `\:`) + ":" + about
	case "fish":
		return c.word + "\t" + about
	}
	return c.word
}

// candidates returns what the last of words may become.
func candidates(app *cli.App, words []string) (all []candidate) {
	words, typed := words[:len(words)-1], words[len(words)-1]
	// bash makes three words of --flag=value.
	if typed == "=" {
		typed = ""
	} else if n := len(words); n > 0 && words[n-1] == "=" {
		words = words[:n-1]
	}
	w := &walk{path: app.Name, verbs: app.Commands, flags: slices.Concat(app.Flags, []cli.Flag{cli.VersionFlag, cli.HelpFlag})}
	var open cli.Flag // it waits for its value
	for _, arg := range words {
		name, hasValue, isFlag := flagName(arg)
		switch {
		case arg == "=":
		case open != nil:
			open = nil
		case isFlag:
			if f := findFlag(w.flags, name); f != nil && !hasValue && takesValue(f) {
				open = f
			}
		case w.word(arg) != nil:
			return nil
		}
	}
	return w.candidates(open, typed)
}

// candidates returns what may stand next.
func (w *walk) candidates(open cli.Flag, typed string) (all []candidate) {
	add := func(prefix, word, about string) {
		if strings.HasPrefix(prefix+word, typed) {
			all = append(all, candidate{prefix + word, about})
		}
	}
	name, hasValue, isFlag := flagName(typed)
	switch {
	case open != nil:
		addWords(open, "", add)
	case isFlag && hasValue:
		before, _, _ := strings.Cut(typed, "=")
		addWords(findFlag(w.flags, name), before+"=", add)
	case strings.HasPrefix(typed, "-"):
		for _, f := range w.flags {
			if f != nil {
				add("--", f.Names()[0], usageOf(f))
			}
		}
	default:
		for _, c := range w.verbs {
			if !c.Hidden {
				add("", c.Name, c.Usage)
			}
		}
		if len(w.wants) > len(w.words) {
			for _, word := range strings.Split(w.wants[len(w.words)], "|") {
				if word == strings.ToLower(word) { // not the name of something
					add("", word, "")
				}
			}
		}
	}
	return all
}

func addWords(f cli.Flag, prefix string, add func(prefix, word, about string)) {
	if c, ok := f.(*ChoiceFlag); ok {
		for _, word := range c.Words {
			add(prefix, word, "")
		}
	}
}

func usageOf(f cli.Flag) string {
	if d, ok := f.(cli.DocGenerationFlag); ok {
		return strings.ReplaceAll(d.GetUsage(), "`", "")
	}
	return ""
}

// shells are the scripts that have a shell ask for candidates; PROGRAM stands for
// the program's name.
var shells = map[string]string{
	"bash": `# Completion of PROGRAM for bash: eval "$(PROGRAM completion bash)"
_PROGRAM() {
	local IFS=$'\n'
	COMPREPLY=($(PROGRAM __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _PROGRAM PROGRAM
`,
	"zsh": `#compdef PROGRAM
# Completion of PROGRAM for zsh: PROGRAM completion zsh >"${fpath[1]}/_PROGRAM"
_PROGRAM() {
	local -a lines
	lines=("${(@f)$(PROGRAM __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n "$lines" ]]; then
		_describe PROGRAM lines
	else
		_files
	fi
}
if [[ "$funcstack[1]" == _PROGRAM ]]; then
	_PROGRAM "$@"
else
	compdef _PROGRAM PROGRAM
fi
`,
	"fish": `# Completion of PROGRAM for fish: PROGRAM completion fish >~/.config/fish/completions/PROGRAM.fish
function __PROGRAM_complete
	set -l words (commandline -opc) (commandline -ct)
	set -l lines (PROGRAM __complete fish $words[2..-1] 2>/dev/null)
	if test (count $lines) -gt 0
		printf '%s\n' $lines
	else
		__fish_complete_path (commandline -ct)
	end
end
complete -c PROGRAM -f -a '(__PROGRAM_complete)'
`,
}

// CompletionCommand prints what lets a shell complete a program's verbs and flags.
func CompletionCommand(program string, out io.Writer) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that completes commands and flags in a shell",
		ArgsUsage: "bash|zsh|fish",
		Action: func(c *cli.Context) error {
			script, ok := shells[c.Args().First()]
			if !ok {
				return Usagef("no completion for %q: use bash, zsh or fish", c.Args().First())
			}
			if _, err := io.WriteString(out, strings.ReplaceAll(script, "PROGRAM", program)); err != nil {
				return fmt.Errorf("print: %w", err)
			}
			return nil
		},
	}
}
