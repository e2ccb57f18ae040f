package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv"
	"fairlead/userspace/control"
)

// A saying is what edits say of one backend on top of the file.
type saying struct {
	added, drained bool
	removed        int // 0, or which removal of all it was
	weight         *int
}

// A poolState is what a file says of a service, weights by backends, and what edits say
// on top of it.
type poolState struct {
	file map[string]int
	list []string // that was set; nil for that of the file
	said map[string]saying
}

func (p poolState) clone() poolState {
	return poolState{p.file, p.list, maps.Clone(p.said)}
}

// weights are those of who is there, without what drains.
func (p *poolState) weights() map[string]int {
	there := maps.Clone(p.file)
	if p.list != nil {
		clear(there)
		for _, b := range p.list {
			there[b] = max(1, p.file[b])
		}
	}
	for b, x := range p.said {
		if x.added {
			there[b] = 1
		}
		if x.removed > 0 {
			delete(there, b)
		}
		if _, has := there[b]; has && x.weight != nil {
			there[b] = *x.weight
		}
	}
	return there
}

// fit has the last removal wait, while nothing would be left by it of another file.
func (p *poolState) fit() {
	if len(p.weights()) > 0 {
		return
	}
	p.said = maps.Clone(p.said)
	last := ""
	for b := range p.file {
		if last == "" || p.said[b].removed > p.said[last].removed {
			last = b
		}
	}
	delete(p.said, last)
}

// do carries an edit out, the nth of all, as docs/control.md says, or returns why it
// cannot.
func (p *poolState) do(e *control.Edit, nth int) error {
	weights := p.weights()
	_, there := weights[e.Backend]
	x := p.said[e.Backend]
	switch {
	case e.Op == control.OpSetBackends:
		said := map[string]saying{}
		for _, b := range e.Backends {
			if _, stays := weights[b]; stays {
				said[b] = p.said[b]
			}
		}
		p.list, p.said = e.Backends, said
		return nil
	case e.Op == control.OpAddBackend && there:
		return control.ErrExists
	case e.Op == control.OpAddBackend:
		x = saying{added: true}
	case !there:
		return control.ErrNotFound
	case e.Op == control.OpRemoveBackend:
		x = saying{removed: nth}
		if _, has := p.file[e.Backend]; p.list == nil && !has || p.list != nil && !slices.Contains(p.list, e.Backend) {
			x = saying{} // nothing else has it
		}
	case e.Op == control.OpSetWeight:
		x.weight = e.Weight
	default:
		x.drained = e.Op == control.OpDrain
	}
	p.said[e.Backend] = x
	return nil
}

// A siteState is the configuration of a few services.
type siteState []poolState

func (s siteState) clone() siteState {
	all := make(siteState, len(s))
	for i := range s {
		all[i] = s[i].clone()
	}
	return all
}

// anySite has weights of the given remainder by 2, by which files and what is applied
// differ.
func anySite(r *rand.Rand, remainder int) siteState {
	s := make(siteState, 3)
	for i := range s {
		s[i] = poolState{file: map[string]int{}, said: map[string]saying{}}
		for _, n := range r.Perm(6)[:1+r.IntN(4)] {
			s[i].file[fmt.Sprint("127.0.0.1:", 1+n)] = 2 + 2*r.IntN(20) + remainder
		}
	}
	return s
}

func (s siteState) yaml() string {
	text := "services:\n"
	for i := range s {
		text += fmt.Sprintf("  - {name: s%d, listen: '%s', forward: proxy, health: {type: none}, backends: [", i, at(uint16(20200+i)))
		for _, b := range slices.Sorted(maps.Keys(s[i].file)) {
			text += fmt.Sprintf("{address: '%s', weight: %d}, ", b, s[i].file[b])
		}
		text += "]}\n"
	}
	return text
}

// shown is what a view has to say of it.
func (s siteState) shown() string {
	var all []string
	for i := range s {
		p := s[i]
		p.fit()
		for b, n := range p.weights() {
			if s[i].said[b].drained {
				n = 0
			}
			all = append(all, fmt.Sprintf("s%d %s=%d", i, b, n))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// on is the same edits on another file.
func (s siteState) on(file siteState) siteState {
	all := s.clone()
	for i := range all {
		all[i].file = file[i].file
	}
	return all
}

// A moment is a revision as an oracle remembers it.
type moment struct {
	state  siteState
	export string
}

// An oracle foretells what an agent does with changes.
type oracle struct {
	*controlled
	r       *rand.Rand
	now     moment
	applied bool // the file does not count
	file    siteState
	past    map[uint64]moment
	last    uint64
	counts  map[string]int
}

// made takes the revision that a change led to, and compares the agent with what it
// has to have now.
func (o *oracle) made(what string, number uint64, before string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 10*time.Second)
	defer cancel()
	var all []string
	for _, s := range o.Now(ctx).Services {
		for _, b := range s.Backends {
			if b.Drains == nil {
				all = append(all, fmt.Sprintf("%s %s=%d", s.Name, b.Address, b.Weight))
			}
		}
	}
	slices.Sort(all)
	want := o.now.state.shown()
	if diff := cmp.Diff(want, strings.Join(all, "\n")); diff != "" {
		o.t.Fatalf("%s: the view differs:\n%s\nedits %+v\non\n%s", what, diff, o.Edits(), o.now.state.yaml())
	}
	o.now.export = o.exported()
	if number != o.Revision().Number || number < o.last || number > o.last+1 || number == o.last && o.now.export != before {
		o.t.Fatalf("%s: revision %d, in force is %d, before was %d; exported before and after:\n%s\n%s", what, number, o.Revision().Number, o.last, before, o.now.export)
	}
	o.last, o.past[number] = number, moment{o.now.state.clone(), o.now.export}
	o.counts[strings.Fields(what)[0]]++
}

// anyEdit returns one that may be wrong.
func (o *oracle) anyEdit(s siteState) control.Edit {
	backend := func() string { return fmt.Sprint("127.0.0.1:", 1+o.r.IntN(6)) }
	n := o.r.IntN(len(s))
	e := about([]control.Op{
		control.OpAddBackend, control.OpRemoveBackend, control.OpSetWeight, control.OpDrain, control.OpUndrain, control.OpSetBackends,
	}[o.r.IntN(6)], fmt.Sprint("s", n), backend())
	if there := slices.Sorted(maps.Keys(s[n].weights())); e.Op != control.OpAddBackend && len(there) > 0 && o.r.IntN(5) > 0 {
		e.Backend = there[o.r.IntN(len(there))]
	}
	switch e.Op {
	case control.OpSetWeight:
		n := o.r.IntN(100)
		e.Weight = &n
	case control.OpSetBackends:
		e.Backends = []string{e.Backend}
		if more := backend(); more != e.Backend {
			e.Backends = append(e.Backends, more)
		}
		e.Backend = ""
	}
	return e
}

// edit has one or two edits come in force together, or none.
func (o *oracle) edit() {
	o.t.Helper()
	request, s := control.Request{Who: "test"}, o.now.state.clone()
	var want error
	for range 1 + o.r.IntN(2) {
		e := o.anyEdit(s)
		n := e.Pool[1] - '0'
		if err := s[n].do(&e, int(o.last)*2+len(request.Edits)); want == nil {
			want = err
		}
		request.Edits = append(request.Edits, e)
	}
	for i := range s {
		if want == nil && len(s[i].weights()) == 0 && len(o.now.state[i].weights()) > 0 {
			want = control.ErrInvalid // a service without backends
		}
	}
	what, before := fmt.Sprintf("edit %+v", request.Edits), o.exported()
	_, err := o.Plan(o.t.Context(), request)
	if !errors.Is(err, want) || (err == nil) != (want == nil) {
		o.t.Fatalf("the plan of %s: %v, want %v", what, err, want)
	}
	r, err := o.Change(o.t.Context(), request)
	if !errors.Is(err, want) || (err == nil) != (want == nil) {
		o.t.Fatalf("%s: %v, want %v", what, err, want)
	}
	if want != nil {
		o.made("refused: "+what, o.last, before)
		return
	}
	o.now.state = s
	o.made(what, r.Number, before)
}

// apply puts a whole configuration in the file's place, or has the file count again.
func (o *oracle) apply() {
	o.t.Helper()
	e, base, before := control.Edit{Op: control.OpApply}, o.file.clone(), o.exported()
	if o.applied = o.r.IntN(2) == 0; o.applied {
		base = anySite(o.r, 0)
		e.Spec = "xdp: off\n" + base.yaml()
	}
	r, err := o.Change(o.t.Context(), control.Request{Edits: []control.Edit{e}})
	if err != nil {
		o.t.Fatal(err)
	}
	o.now = moment{state: base}
	o.made(fmt.Sprint("apply applied ", o.applied), r.Number, before)
}

func (o *oracle) rollBack() {
	o.t.Helper()
	n, before := 1+o.r.Uint64N(o.last), o.exported()
	r, err := o.Rollback(o.t.Context(), n, control.Request{})
	if err != nil {
		o.t.Fatal(err)
	}
	o.now = moment{o.past[n].state.clone(), o.past[n].export}
	o.applied = o.now.state.yaml() != o.file.yaml()
	want := o.now.export
	o.made(fmt.Sprint("rollback to ", n), r.Number, before)
	if o.now.export != want {
		o.t.Fatalf("revision %d, which restores %d, exports\n%s\nwant\n%s", r.Number, n, o.now.export, want)
	}
}

// startAgain restarts the agent, with another file now and then.
func (o *oracle) startAgain() {
	o.t.Helper()
	before := o.exported()
	if o.r.IntN(2) == 0 {
		o.file = anySite(o.r, 1)
		o.write(o.file.yaml())
		if !o.applied {
			o.now.state = o.now.state.on(o.file)
		}
	}
	o.restart()
	testenv.Await(o.t, "what the agent has published", func() bool { return o.View() != nil })
	o.made("restart", o.Revision().Number, before)
}

// TestRandomChangesLeadWhereAnOracleSays makes changes of all kinds in one agent, some
// of them wrong, and starts it again in between.
func TestRandomChangesLeadWhereAnOracleSays(t *testing.T) {
	steps, seed := 300, uint64(1)
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		steps, seed = 10_000, uint64(time.Now().UnixNano())
	}
	if text := os.Getenv("FAIRLEAD_FUZZ_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d", seed)
	o := &oracle{r: rand.New(rand.NewPCG(seed, 0)), past: map[uint64]moment{}, counts: map[string]int{}}
	o.file = anySite(o.r, 1)
	o.now.state = o.file.clone()
	o.controlled = controlAgent(t, o.file.yaml())
	testenv.Await(t, "what the agent has published", func() bool { return o.View() != nil })
	o.made("first", 1, "")
	for range steps {
		switch n := o.r.IntN(40); n {
		case 0:
			o.startAgain()
		case 1, 2:
			o.apply()
		case 3, 4, 5:
			o.rollBack()
		default:
			o.edit()
		}
	}
	t.Log(o.counts)
	for _, what := range []string{"edit", "refused:", "apply", "rollback", "restart"} {
		if o.counts[what] == 0 {
			t.Errorf("no step was of the kind %q: %v", what, o.counts)
		}
	}
}
