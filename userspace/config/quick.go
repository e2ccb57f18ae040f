package config

import (
	"go.yaml.in/yaml/v3"

	"fairlead/userspace/model"
)

// A Given is a value of a command line, and the flag or variable that it is from.
type Given struct{ Text, From string }

// A Quick is a configuration of one service, which listens on all addresses of
// this host, for agents without a file.
type Quick struct {
	Port Given
	// Servers are host:port; if there are any, the service is a TCP proxy. If
	// not, Backends are the URLs that it forwards requests to.
	Servers, Backends []Given
	// Connections bounds the requests that each of Backends has at once; the
	// zero value does not.
	Connections Given
	// Certificate is the file of the chain that clients are shown, and Key that
	// of its key; with the zero values they come without TLS.
	Certificate, Key Given
	// Cache says that answers are stored, within the bounds of [model.DefaultCache].
	Cache bool
	// IPv6 says that the host has it.
	IPv6 bool
}

// quickName is the name of what a [Quick] has.
const quickName = "quick"

// State returns what a file would say. Its error joins one [Fault] for each
// mistake.
func (q *Quick) State() (model.State, error) { return q.Tree().State(true) }

// Tree returns what a file would say as it would be written.
func (q *Quick) Tree() *Tree {
	r := &reader{homes: map[*yaml.Node]string{}}
	if _, ok := r.port(value{Node: r.node(q.Port)}, q.Port.Text, q.Port.Text); !ok {
		return &Tree{faults: r.faults, memo: &memo{}}
	}
	services := []any{q.service(quickName, "0.0.0.0:")}
	if q.IPv6 {
		services = append(services, q.service(quickName+"-ipv6", "[::]:"))
	}
	file := keys{"xdp", string(model.XDPOff), "services", services}
	if len(q.Servers) == 0 {
		file = append(file, "pools", keys{quickName, q.pool()})
	}
	return &Tree{root: r.node(file), homes: r.homes, memo: &memo{}}
}

func (q *Quick) service(name, addr string) keys {
	s := keys{"name", name, "listen", Given{addr + q.Port.Text, q.Port.From}}
	if len(q.Servers) > 0 {
		return append(s, "forward", string(model.ForwardProxy), "backends", backendsOf("address", q.Servers))
	}
	if q.Certificate != (Given{}) {
		pair := from{q.Certificate.From + " and " + q.Key.From, keys{"cert", q.Certificate, "key", q.Key}}
		s = append(s, "tls", keys{"certificates", []any{pair}})
	}
	if q.Cache {
		s = append(s, "cache", "true")
	}
	return append(s, "forward", string(model.ForwardHTTP), "routes", []any{keys{"match", "/", "pool", quickName}})
}

func (q *Quick) pool() keys {
	p := keys{
		"backends", backendsOf("url", q.Backends),
		"health", keys{"type", string(model.CheckHTTP), "path", "/health"},
	}
	if q.Connections != (Given{}) {
		p = append(p, "max-requests", q.Connections)
	}
	return p
}

func backendsOf(key string, all []Given) (list []any) {
	for _, g := range all {
		list = append(list, keys{key, g})
	}
	return list
}

// keys are those of a mapping, each before its value.
type keys []any

// A from is something and the flags that it is from.
type from struct {
	flags string
	what  any
}

// node returns what a file would have for keys, lists, words and what is given.
func (r *reader) node(x any) *yaml.Node {
	n := &yaml.Node{}
	add := func(all []any) {
		for _, x := range all {
			n.Content = append(n.Content, r.node(x))
		}
	}
	switch x := x.(type) {
	case keys:
		n.Kind = yaml.MappingNode
		add(x)
	case []any:
		n.Kind = yaml.SequenceNode
		add(x)
	case from:
		n = r.node(x.what)
		r.homes[n] = x.flags
	case string:
		n.Kind, n.Value = yaml.ScalarNode, x
	case Given:
		n.Kind, n.Value = yaml.ScalarNode, x.Text
		r.homes[n] = x.From
	}
	return n
}
