package command

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"fairlead/userspace/config"
	"fairlead/userspace/model"
)

// State reads the configuration that --config names. What --interface names
// replaces its interfaces. Unless XDP is off, each must be there: exists says
// so, [HasInterface] but in tests.
func State(c *cli.Context, exists func(name string) bool) (path string, state model.State, err error) {
	path = c.String("config")
	if path == "" {
		return "", state, Usagef("--config is missing: name the configuration file; try %s --help", c.Command.HelpName)
	}
	state, err = StateOf(c, path, exists)
	return path, state, err
}

// StateOf is [State] of another file.
func StateOf(c *cli.Context, path string, exists func(name string) bool) (model.State, error) {
	state, err := config.Load(path)
	if err != nil {
		return state, err
	}
	given := Interfaces(c)
	if len(given) > 0 {
		state.Interfaces = given
	}
	if cmp.Or(Mode(c), state.XDP) == model.XDPOff {
		return state, nil
	}
	var faults []error
	for i, name := range state.Interfaces {
		switch {
		case exists(name):
		case len(given) > 0:
			faults = append(faults, Usagef("--interface %s: this host has no such interface: ip link shows those that there are", name))
		default:
			faults = append(faults, interfaceFault(path, i, name))
		}
	}
	return state, errors.Join(faults...)
}

// HasInterface reports whether this host has an interface.
func HasInterface(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

// interfaceFault finds the i-th interface in the file, which was read before.
func interfaceFault(path string, i int, name string) error {
	f := config.Fault{
		File: path, Line: 1, Column: 1, Field: fmt.Sprintf("interfaces[%d]", i),
		Text: fmt.Sprintf("this host has no interface %q: ip link shows those that there are", name),
	}
	var top yaml.Node
	data, err := os.ReadFile(path)
	if err != nil || yaml.Unmarshal(data, &top) != nil || len(top.Content) == 0 {
		return f // it changed just now
	}
	keys := top.Content[0].Content
	at := slices.IndexFunc(keys, func(n *yaml.Node) bool { return n.Value == "interfaces" })
	if at < 0 || at+1 >= len(keys) || i >= len(keys[at+1].Content) {
		return f
	}
	n := keys[at+1].Content[i]
	f.Line, f.Column = n.Line, n.Column
	return f
}
