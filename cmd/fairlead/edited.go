package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/userspace/config"
	"fairlead/userspace/control"
	"fairlead/userspace/model"
	store "fairlead/userspace/state"
)

// An overlay is what stands on top of the file, or in its place, by changes of the
// agent.
type overlay struct {
	// Revision is the last one; 0 if there is no state of an agent.
	Revision uint64 `json:"revision,omitempty"`
	// Applied says that a configuration stands in the place of the file.
	Applied bool `json:"applied,omitempty"`
	// Edited are the parts of the configuration that the file does not decide.
	Edited []string `json:"edited,omitempty"`
	// Dormant are changes that do not fit the file, and why.
	Dormant []string `json:"dormant,omitempty"`
}

// onTop returns what a file means with the changes that the agent keeps, and says
// which these are. A state that cannot be looked at is warned of.
func onTop(c *cli.Context, w io.Writer, path string, file model.State) (model.State, overlay, error) {
	dir := cmp.Or(c.String("state-dir"), file.Agent.StateDir, store.DefaultDir())
	if dir == store.Off {
		return file, overlay{}, nil
	}
	if _, inVault := config.StateInVault(dir); inVault {
		fmt.Fprintln(w, "fairlead: warning: changes of the agent are in a KV store, the plan is of the file alone: fairlead plan --live asks the agent (--state-dir)")
		return file, overlay{}, nil
	}
	peek, err := store.PeekFile(c.Context, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return file, overlay{}, nil
	}
	if err != nil {
		fmt.Fprintf(w, "fairlead: warning: changes of the agent are not known, the plan is of the file alone: %v (--state-dir)\n", err)
		return file, overlay{}, nil
	}
	tree, err := config.Read(path)
	if err != nil {
		return file, overlay{}, err
	}
	o := overlay{Revision: peek.Revision.Number}
	if document, err := tree.Export(); err == nil && peek.Config.Applied && store.Digest(document) != peek.Config.Base {
		o.Applied, tree = true, config.NewTreeBeside(path, "the configuration applied", peek.Document)
	}
	_, state, dormant, err := tree.Fit(peek.Config.Edits)
	if err != nil {
		return file, overlay{}, err
	}
	left := map[string]bool{}
	for _, d := range dormant {
		what := editWords(&d.Edit)
		left[what] = true
		o.Dormant = append(o.Dormant, fmt.Sprintf("%s: %v", what, d.Err))
	}
	for i := range peek.Config.Edits {
		if what := editWords(&peek.Config.Edits[i]); !left[what] {
			o.Edited = append(o.Edited, what)
		}
	}
	if given := command.Interfaces(c); len(given) > 0 {
		state.Interfaces = given
	}
	return state, o, nil
}

// editWords says what of the configuration an edit decides.
func editWords(e *control.Edit) string {
	owner := "pools." + e.Pool
	if e.Service != "" {
		owner = "services." + e.Service
	}
	switch e.Op {
	case control.OpPutService, control.OpPutPool:
		return owner
	case control.OpRemoveService, control.OpRemovePool:
		return owner + " (removed)"
	case control.OpPutRoute:
		return owner + ".routes[" + e.Match + "]"
	case control.OpRemoveRoute:
		return owner + ".routes[" + e.Match + "] (removed)"
	case control.OpSetBackends:
		return owner + ".backends"
	}
	backend := owner + ".backends[" + e.Backend + "]"
	switch e.Op {
	case control.OpRemoveBackend:
		return backend + " (removed)"
	case control.OpSetWeight:
		return backend + ".weight"
	case control.OpDrain:
		return backend + ".weight (drained)"
	}
	return backend
}

// words says for people what stands on top of the file.
func (o *overlay) words() string {
	var b strings.Builder
	if o.Applied {
		b.WriteString("the file does not count: a configuration that was applied stands in its place\n")
	}
	for _, what := range o.Edited {
		fmt.Fprintf(&b, "set by the API, whatever the file says: %s\n", what)
	}
	for _, what := range o.Dormant {
		fmt.Fprintf(&b, "left out, as it does not fit the file: %s\n", what)
	}
	return b.String()
}
