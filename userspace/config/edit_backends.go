package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"fairlead/userspace/control"
)

// A backendList is the list of backends of a pool, or of a service that has its own.
type backendList struct {
	owner string // for errors, such as `pool "web"`
	path  string
	list  *yaml.Node
}

// group returns the list that an edit is about. Its Service, or else its Pool, says
// whose.
func (t *Tree) group(e *control.Edit) (backendList, error) {
	if e.Service == "" {
		if pool := t.pool(e.Pool); pool != nil {
			return t.listOf(pool, "pool "+quote(e.Pool), value{path: "pools"}.at(e.Pool, nil).path)
		}
		return backendList{}, noPool(e.Pool)
	}
	services, at := t.service(e.Service)
	if at < 0 {
		return backendList{}, noService(e.Service)
	}
	return t.listOf(services.Content[at], "service "+quote(e.Service), fmt.Sprintf("services[%d]", at))
}

func (t *Tree) listOf(n *yaml.Node, owner, path string) (backendList, error) {
	list := lookup(n, "backends")
	if list == nil || list.Kind != yaml.SequenceNode {
		return backendList{}, fmt.Errorf("backends of %s: %w", owner, control.ErrNotFound)
	}
	return backendList{owner, path + ".backends", list}, nil
}

// backend returns the index of the one that a text is about: how it is written, or
// its address and port. The error wraps [control.ErrNotFound] if there is none.
func (t *Tree) backend(g backendList, text string) (int, error) {
	at, fit := t.find(g, text)
	switch {
	case fit == 0:
		return -1, fmt.Errorf("backend %s of %s: %w: %s", quote(text), g.owner, control.ErrNotFound, whoIsThere(g.list))
	case fit > 1:
		return -1, Fault{File: editHome, Field: g.path, Text: fmt.Sprintf("%s is the address of %d backends: give the URL of one", quote(text), fit)}
	}
	return at, nil
}

// find returns how many backends a text may be about, and the index of the first.
func (t *Tree) find(g backendList, text string) (at, fit int) {
	want := plainBackend(t.text(word(text)))
	for i, n := range g.list.Content {
		have := t.plain(n)
		if have == want && have != "" {
			return i, 1
		}
		if hostPort(have) == want && want != "" {
			if fit++; fit == 1 {
				at = i
			}
		}
	}
	return at, fit
}

// plain returns the plain text of an entry of a list of backends, "" if it has none.
func (t *Tree) plain(n *yaml.Node) string {
	text, ok := t.plains[n]
	if ok {
		return text
	}
	if at := backendText(n); at != nil {
		text = plainBackend(t.text(at))
	}
	if t.plains != nil {
		t.plains[n] = text
	}
	return text
}

// whoIsThere tells whom a list has, by what a change names them.
func whoIsThere(list *yaml.Node) string {
	const most = 8
	var backends []string
	for _, n := range list.Content {
		if at := backendText(n); at != nil {
			backends = append(backends, at.Value)
		}
	}
	switch n := len(backends); {
	case n == 0:
		return "it has none"
	case n > most:
		return fmt.Sprintf("it has %s and %d more", strings.Join(backends[:most], ", "), n-most)
	}
	return "it has " + strings.Join(backends, ", ")
}

// backendText returns what says where a backend is, nil if nothing does.
func backendText(n *yaml.Node) *yaml.Node {
	for _, key := range []string{"address", "url", "srv"} {
		if at := lookup(n, key); at != nil && at.Kind == yaml.ScalarNode {
			return at
		}
	}
	return nil
}

// plainBackend returns the same text for all that are about the same backend.
func plainBackend(text string) string {
	text = strings.TrimSuffix(strings.TrimSpace(text), ":*") // the port that the client asked for
	if u := parsedURL(text); u != nil {
		port := u.Port()
		switch {
		case port == "" && u.Scheme == "https":
			port = ":443"
		case port == "":
			port = ":80"
		default:
			port = ":" + port
		}
		return u.Scheme + "://" + plainHost(strings.TrimSuffix(u.Host, ":"+u.Port())) + port + strings.TrimRight(u.EscapedPath(), "/")
	}
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.String()
	}
	return plainHost(text)
}

// parsedURL returns a URL with a host, nil if a text is none.
func parsedURL(text string) *url.URL {
	if !strings.Contains(text, "://") {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return nil
	}
	return u
}

func plainHost(host string) string {
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		if addr.Is6() {
			return "[" + addr.String() + "]"
		}
		return addr.String()
	}
	return nameOf(host)
}

// hostPort returns the host and port of a plain URL, and "" for all else.
func hostPort(plain string) string {
	_, rest, ok := strings.Cut(plain, "://")
	if !ok {
		return ""
	}
	at, _, _ := strings.Cut(rest, "/")
	return at
}

// newBackend returns an entry of a list of backends.
func (t *Tree) newBackend(text string) *yaml.Node {
	key := "address"
	switch {
	case strings.Contains(text, "://"):
		key = "url"
	case strings.HasPrefix(text, "_"):
		key = "srv"
	}
	n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	t.setKey(n, key, word(text))
	t.settle(n)
	return n
}

// putBackend makes the backend at an index of a list, which may be its end, what an
// edit says.
func (t *Tree) putBackend(g backendList, at int, e *control.Edit) error {
	n := t.newBackend(e.Backend)
	if e.Weight != nil {
		t.setKey(n, "weight", number(*e.Weight))
	}
	if e.Spec != "" {
		more, err := t.spec(e, fmt.Sprintf("%s[%d]", g.path, at))
		if err != nil {
			return err
		}
		n.Content = append(n.Content, more.Content...)
	}
	if at == len(g.list.Content) {
		g.list.Content = append(g.list.Content, nil)
	}
	g.list.Content[at] = n
	return nil
}

// setBackends makes backends all that a list has. Those that it has already stay as
// they are.
func (t *Tree) setBackends(g backendList, backends []string) error {
	all := make([]*yaml.Node, 0, len(backends))
	for _, text := range backends {
		at, err := t.backend(g, text)
		switch {
		case errors.Is(err, control.ErrNotFound):
			all = append(all, t.newBackend(text))
		case err != nil:
			return err
		case slices.Contains(all, g.list.Content[at]):
			return Fault{File: editHome, Field: g.path, Text: fmt.Sprintf("%s stands in the list already: remove one of the two", quote(text))}
		default:
			all = append(all, g.list.Content[at])
		}
	}
	g.list.Content = all
	return nil
}
