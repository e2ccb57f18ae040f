package config

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxSecret bounds the files that values are read from.
const maxSecret = 64 << 10

// A secret is a text that must not be shown, and what is shown in its place.
type secret struct{ text, shown string }

var variableSyntax = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand puts variables and the contents of files where v asks for them. Keys
// stay what they are.
func (r *reader) expand(v value) {
	switch v.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(v.Content); i += 2 {
			r.expand(v.at(v.Content[i].Value, v.Content[i+1]))
		}
	case yaml.SequenceNode:
		for i := range v.Content {
			r.expand(v.item(i))
		}
	case yaml.ScalarNode:
		if path, ok := strings.CutPrefix(v.Value, "file:"); ok {
			r.secretFile(v, r.variables(v, path))
			return
		}
		v.Value = r.variables(v, v.Value)
	}
}

// expands reports whether expand could change n or something below it.
func expands(n *yaml.Node) bool {
	if n.Kind == yaml.ScalarNode {
		return strings.Contains(n.Value, "{") || strings.HasPrefix(n.Value, "file:")
	}
	return slices.ContainsFunc(n.Content, expands)
}

// variables returns text with the variables that it names. Before a { two $ stand
// for one; elsewhere a $ is itself.
func (r *reader) variables(v value, text string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '{')
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		plain := strings.TrimRight(text[:i], "$")
		dollars := i - len(plain)
		b.WriteString(plain + strings.Repeat("$", dollars/2))
		if text = text[i+1:]; dollars%2 == 0 {
			b.WriteByte('{')
			continue
		}
		name, rest, closed := strings.Cut(text, "}")
		b.WriteString(r.variable(v, name, closed))
		text = rest
	}
}

// variable returns the value of a variable of the environment.
func (r *reader) variable(v value, name string, closed bool) string {
	shown := "${" + name + "}"
	if !closed {
		r.fault(v, "%s is not closed: write it like ${NAME}, or $${ for the text itself", quote("${"+name))
		return ""
	}
	if _, err := strconv.Atoi(name); err == nil {
		return shown // a group of a regular expression
	}
	if !variableSyntax.MatchString(name) {
		r.fault(v, "%s names no variable: write it like ${NAME}, or $%s for the text itself", quote(shown), shown)
		return ""
	}
	text, ok := os.LookupEnv(name)
	if !ok {
		r.fault(v, "the variable %s is not set: set it in the environment, or write $%s for the text itself", name, shown)
		return ""
	}
	r.secrets = append(r.secrets, secret{text, shown})
	return text
}

// secretFile makes v what a file holds, without the line breaks at its end, or what it
// had last.
func (r *reader) secretFile(v value, name string) {
	f := fileValue{name: v.Value}
	f.text, f.err = readSecret(r.beside(name))
	if !r.take(&f) {
		r.fault(v, "cannot be read: %v", f.err)
		return
	}
	v.Value = f.text
	r.secrets = append(r.secrets, secret{f.text, f.name})
}

func readSecret(path string) (string, error) {
	text, err := readAtMost(path, maxSecret)
	if errors.Is(err, errLarge) {
		err = errors.New("more than 64 KiB")
	}
	return strings.TrimRight(text, "\r\n"), err
}

// mask returns an argument of a fault without secrets. What is as short as a
// number is none, unless it is all of the argument.
func (r *reader) mask(arg any) any {
	const short = 4
	var text string
	switch a := arg.(type) {
	case string:
		text = a
	case error:
		text = a.Error()
	default:
		return arg
	}
	for _, s := range r.secrets {
		quoted := strconv.Quote(s.text)
		switch {
		case text == s.text:
			text = s.shown
		case text == quoted || text == quote(s.text):
			text = quote(s.shown)
		case len(s.text) >= short:
			text = strings.ReplaceAll(text, s.text, s.shown)
			text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], s.shown)
			text = maskCut(text, s, short)
		}
	}
	return text
}

// login is what stands before the host of a URL.
var login = regexp.MustCompile(`//[^/]*@`)

// quoteURL is quote for what ought to be a URL, without secrets and passwords.
func (r *reader) quoteURL(s string) string {
	return quote(login.ReplaceAllString(r.mask(s).(string), "//...@"))
}

// maskCut masks the beginning of a secret, all that [quote] has left of it.
func maskCut(text string, s secret, short int) string {
	const cut = `..."`
	head, ok := strings.CutSuffix(text, cut)
	if !ok {
		return text
	}
	for n := len(s.text) - 1; n >= short; n-- {
		quoted := strconv.Quote(s.text[:n])
		if h, ok := strings.CutSuffix(head, quoted[1:len(quoted)-1]); ok {
			return h + s.shown + cut
		}
	}
	return text
}
