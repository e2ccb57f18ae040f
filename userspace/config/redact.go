package config

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// secretKeys are those whose values may be secrets, wherever they stand: names of
// headers, too.
var secretKeys = regexp.MustCompile(`(?i)authorization|cookie|passw|secret|token|credential|signature|api-?key|^x-.*(auth|key)`)

// hidden is what stands for a secret.
const hidden = "(secret)"

// Redacted is [Tree.Export] without secrets that stand there as such, for people to
// read.
func (t *Tree) Redacted() ([]byte, error) { return t.write(redact) }

// RedactedSpec returns what an edit says without secrets that stand there as such.
func RedactedSpec(spec string) string {
	if strings.TrimSpace(spec) == "" {
		return ""
	}
	n, fault := parseYAML(editHome, []byte(spec))
	if fault != nil {
		return hidden
	}
	plain(n, redact)
	text, err := encode(n)
	if err != nil {
		return hidden
	}
	return string(text)
}

// redact hides the value of a key where it may be a secret.
func redact(key string, v *yaml.Node) {
	switch {
	case v.Kind == yaml.ScalarNode && secretKeys.MatchString(key) && !strings.HasSuffix(key, "-file"):
		hide(v)
	case v.Kind == yaml.ScalarNode:
		v.Value = login.ReplaceAllString(v.Value, "//"+hidden+"@")
	case v.Kind == yaml.MappingNode && key == "sticky":
		hide(lookup(v, "key"))
	case v.Kind == yaml.SequenceNode && key == "notify":
		for _, n := range v.Content {
			hide(lookup(n, "url"))
		}
	}
}

// hide makes a scalar, unless it names a variable or a file, say that it is secret.
func hide(n *yaml.Node) {
	if n == nil || n.Kind != yaml.ScalarNode || strings.HasPrefix(n.Value, "file:") || strings.Contains(n.Value, "${") {
		return
	}
	n.Value, n.Tag, n.Style = hidden, "!!str", 0
}
