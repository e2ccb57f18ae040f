package main

import (
	"cmp"
	"context"
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
	"fairlead/userspace/vault"
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
	if err := checkServer(dir, file.Vault); err != nil {
		return file, overlay{}, err
	}
	peek, err := kept(c.Context, dir, file.Vault)
	if errors.Is(err, fs.ErrNotExist) {
		return file, overlay{}, nil
	}
	if err != nil {
		fmt.Fprintf(w, "fairlead: warning: changes of the agent are not known, the plan is of the file alone (--live asks the agent): %v (--state-dir)\n", err)
		return file, overlay{}, nil
	}
	tree, err := config.Read(path)
	if err != nil {
		return file, overlay{}, err
	}
	o := overlay{Revision: peek.Revision.Number}
	if document, err := tree.Export(); err == nil && peek.Config.Applied && store.Digest(document) != peek.Config.Base {
		o.Applied, tree = true, config.NewTreeBeside(path, control.Applied, peek.Document)
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

// checkServer refuses a state in a KV store whose server no configuration names.
func checkServer(stateDir string, server *model.Vault) error {
	if _, inVault := config.StateInVault(stateDir); inVault && server == nil {
		return command.Usagef("--state-dir %s needs a server: write vault: {address: ...} in a configuration file", stateDir)
	}
	return nil
}

// kept reads what the agent keeps in a directory, or in the KV store of a server.
func kept(ctx context.Context, stateDir string, server *model.Vault) (*store.Peek, error) {
	path, inVault := config.StateInVault(stateDir)
	if !inVault {
		return store.PeekFile(ctx, stateDir)
	}
	kv, err := vault.OpenKV(server, path)
	if err != nil {
		return nil, fmt.Errorf("look at state: %w", err)
	}
	return store.PeekVault(ctx, kv, path)
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
