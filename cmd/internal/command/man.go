package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// A ManSection is one of a manual page behind the commands. Each line is a term and,
// behind a tab, what it means.
type ManSection struct{ Title, Text string }

// ExitStatuses are those of [Run].
var ExitStatuses = ManSection{"EXIT STATUS", `0	done
1	failed while running
2	wrong usage or configuration; nothing was changed
3	a conflict with something that is there, or refused`}

// ManCommand prints the manual page of the program that it is a command of: its
// commands, and what else it has.
func ManCommand(out io.Writer, sections ...ManSection) *cli.Command {
	return &cli.Command{
		Name:  "man",
		Usage: "print the manual page, for man -l",
		Action: func(c *cli.Context) error {
			if _, err := io.WriteString(out, manPage(c.App, sections)); err != nil {
				return fmt.Errorf("print: %w", err)
			}
			return nil
		},
	}
}

// manPage returns the page in the language of man(7).
func manPage(app *cli.App, sections []ManSection) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 8\n.SH NAME\n%s \\- %s\n", roff(strings.ToUpper(app.Name)), roff(app.Name), roff(app.Usage))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n.I COMMAND\n[\\fIFLAGS\\fP] [\\fIARGUMENTS\\fP]\n.SH COMMANDS\n", roff(app.Name))
	writeManCommands(&b, app.Name, app.Commands)
	for _, s := range sections {
		fmt.Fprintf(&b, ".SH %s\n", s.Title)
		for line := range strings.SplitSeq(s.Text, "\n") {
			term, text, _ := strings.Cut(line, "\t")
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(term), roff(text))
		}
	}
	return b.String()
}

// writeManCommands writes what commands, and those below them, do.
func writeManCommands(b *strings.Builder, path string, commands []*cli.Command) {
	for _, c := range commands {
		if c.Hidden {
			continue
		}
		name := path + " " + c.Name
		if len(c.Subcommands) > 0 {
			writeManCommands(b, name, c.Subcommands)
			continue
		}
		fmt.Fprintf(b, ".SS %s\n%s.\n", strings.TrimSpace(roff(name+" "+c.ArgsUsage)), roff(c.Usage))
		writeManText(b, c.Description)
		for _, f := range c.VisibleFlags() {
			if f, ok := f.(cli.DocGenerationFlag); ok {
				writeManFlag(b, f)
			}
		}
	}
}

// writeManText writes a description; lines that are set in are examples.
func writeManText(b *strings.Builder, text string) {
	example := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if in := strings.HasPrefix(line, " "); in != example {
			b.WriteString(map[bool]string{true: ".EX\n", false: ".EE\n"}[in])
			example = in
		} else if line == "" || b.Len() > 0 && !example && strings.HasPrefix(text, line) {
			b.WriteString(".PP\n")
		}
		if line != "" {
			b.WriteString(roff(line) + "\n")
		}
	}
	if example {
		b.WriteString(".EE\n")
	}
}

// writeManFlag writes how a flag is typed and what it means.
func writeManFlag(b *strings.Builder, f cli.DocGenerationFlag) {
	names := make([]string, 0, 2)
	for _, n := range f.(cli.Flag).Names() {
		names = append(names, strings.Repeat("-", min(2, len(n)))+n)
	}
	value, usage := "", f.GetUsage()
	if before, rest, ok := strings.Cut(usage, "`"); ok && f.TakesValue() {
		name, after, _ := strings.Cut(rest, "`")
		value, usage = " \\fI"+roff(name)+"\\fP", before+name+after
	}
	fmt.Fprintf(b, ".TP\n\\fB%s\\fP%s\n%s", roff(strings.Join(names, ", ")), value, roff(usage))
	if initial := f.GetDefaultText(); f.TakesValue() && initial != "" && initial != `""` {
		fmt.Fprintf(b, " (default: %s)", roff(initial))
	}
	if all := f.GetEnvVars(); len(all) > 0 {
		fmt.Fprintf(b, " [%s]", roff("$"+strings.Join(all, ", $")))
	}
	b.WriteByte('\n')
}

// roff returns text that means itself.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
