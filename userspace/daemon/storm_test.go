package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/testenv/stage"
	"fairlead/userspace/config"
	"fairlead/userspace/control"
	"fairlead/userspace/kernel"
)

// manyServices are 20 services on loopback, with three backends each.
func manyServices() string {
	var s strings.Builder
	s.WriteString("services:\n")
	for i := range 20 {
		fmt.Fprintf(&s, "  - {name: s%d, listen: '%s', forward: proxy, health: {type: none}, backends: [{address: '127.0.0.1:1'}, {address: '127.0.0.1:2'}, {address: '127.0.0.1:3'}]}\n", i, at(uint16(20200+i)))
	}
	return s.String()
}

// wantRate asks for the changes that the storm of a minute has to make each second, by
// four writers that wait for each answer. A short one only tells how many it made: what
// else the machine has to do weighs too much there.
func (x *storm) wantRate(t *testing.T, d time.Duration) {
	t.Helper()
	rate := float64(x.n) / d.Seconds()
	t.Logf("%d changes in %v: %.0f a second", x.n, d, rate)
	if d >= time.Minute && rate < 1000 {
		t.Errorf("%.0f changes a second, want 1000", rate)
	}
}

// A storm is what some writers did, each as fast as it got its answers.
type storm struct {
	mu   sync.Mutex
	n    int
	last map[string]control.Revision // by service and backend
}

// rage has four writers set weights for a time.
func (x *storm) rage(t *testing.T, p control.Plane, d time.Duration) {
	x.last = map[string]control.Revision{}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i, end := 0, time.Now().Add(d); time.Now().Before(end); i++ {
				service, backend := fmt.Sprint("s", (i*7+w*3)%20), fmt.Sprint("127.0.0.1:", 1+(i+w)%3)
				r, err := p.Change(t.Context(), control.Request{Who: fmt.Sprint("writer ", w), Edits: []control.Edit{setWeight(service, backend, 1+(i+w)%1000)}})
				if err != nil {
					t.Error(err)
					return
				}
				x.note(service+" "+backend, r)
			}
		})
	}
	writers.Wait()
}

func (x *storm) note(what string, r control.Revision) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n++
	if r.Number > x.last[what].Number {
		x.last[what] = r
	}
}

func TestAStormOfChanges(t *testing.T) {
	d := time.Second
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		d = time.Minute
	}
	c := controlAgent(t, manyServices())
	var x storm
	x.rage(t, c, d)
	x.wantRate(t, d)
	s, err := config.Parse("export", []byte(c.exported()))
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.Services {
		for _, b := range s.Services[i].Backends {
			r, ok := x.last[s.Services[i].Name+" "+b.String()]
			if ok && *r.Edits[0].Weight != b.Weight {
				t.Errorf("%s %s has weight %d, but revision %d, the last of it, has %d", s.Services[i].Name, b, b.Weight, r.Number, *r.Edits[0].Weight)
			}
		}
	}
	if n := c.Revision().Number; n != uint64(x.n)+1 {
		t.Errorf("revision %d after %d changes", n, x.n)
	}
	before := c.exported()
	c.restart()
	if after := c.exported(); after != before {
		t.Errorf("after a restart\n%s\nwant\n%s", after, before)
	}
}

// rageIn has four writers change an agent with XDP, as rage does; one of them takes
// the third backend of a service out, or puts it in again, now and then.
func (x *storm) rageIn(b *bench, d time.Duration) {
	x.last = map[string]control.Revision{}
	var writers sync.WaitGroup
	for w := range 4 {
		p := b.remote()
		writers.Go(func() {
			for i, end := 0, time.Now().Add(d); time.Now().Before(end); i++ {
				service, backend := fmt.Sprint("s", (i*7+w*3)%20), fmt.Sprintf("%s:8080", b.BackendAddrs[1])
				e := setWeight(service, backend, 1+(i+w)%1000)
				if k := i / 25; w == 0 && i%25 == 0 {
					service, backend = fmt.Sprint("s", k/2%20), fmt.Sprintf("%s:8080", b.BackendAddrs[2])
					e = about([]control.Op{control.OpRemoveBackend, control.OpAddBackend}[k%2], service, backend)
				}
				r, err := p.do(call{Request: control.Request{Force: true, Edits: []control.Edit{e}}})
				if err != nil {
					b.t.Error(err)
					return
				}
				x.note(service+" "+e.Backend, r.Revision)
			}
		})
	}
	writers.Wait()
}

func TestAStormOfChangesMovesNoFlowOfOthers(t *testing.T) {
	d := time.Second
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		d = time.Minute
	}
	b := newBench(t, 3)
	b.greetAll()
	text := "services:\n"
	for i := range 20 {
		text += strings.NewReplacer("health: {type: tcp, interval: 200ms, timeout: 200ms, rise: 1, fall: 2}", "health: {type: none}").Replace(b.service(fmt.Sprint("s", i), "tcp", 80+i))
	}
	b.opts.StateDir = t.TempDir()
	b.configure(b.interfaces(), text)
	b.start()
	defer b.stop()
	stop := b.traffic(20)
	var x storm
	x.rageIn(b, d)
	t.Logf("%d bytes there and back meanwhile", stop())
	x.wantRate(t, d)
	b.wantKernel(b.remote().exported(t), &x)
}

// traffic opens three connections to each of some services, and has a byte go there and
// back on each, again and again, until stop is called, which returns how many went.
// None may be lost but those of the third backend, which comes and goes.
func (b *bench) traffic(services int) (stop func() (sent int64)) {
	var sent atomic.Int64
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(b.t.Context())
	for i := range services {
		var flows []net.Conn
		for range 3 {
			if c, at := b.opened(80 + i); at < 2 {
				flows = append(flows, c)
			}
		}
		running.Go(func() {
			pace := time.NewTicker(20 * time.Millisecond)
			defer pace.Stop()
			for k := 0; ctx.Err() == nil; k++ {
				f := flows[k%len(flows)]
				if err := errors.Join(f.SetDeadline(time.Now().Add(stage.Patience)), works(f)); err != nil {
					b.t.Errorf("flow %d of service %d: %v", k%len(flows), i, err)
					return
				}
				sent.Add(1)
				<-pace.C
			}
		})
	}
	return func() int64 {
		cancel()
		running.Wait()
		return sent.Load()
	}
}

// wantKernel checks that the maps have the services of an export, with the weights of
// the last changes.
func (b *bench) wantKernel(export string, x *storm) {
	b.t.Helper()
	s, err := config.Parse("export", []byte(export))
	if err != nil {
		b.t.Fatal(err)
	}
	v, err := kernel.Status(b.opts.PinDir)
	if err != nil {
		b.t.Fatal(err)
	}
	have := map[string]int{}
	for _, service := range v.Services {
		for _, backend := range service.Backends {
			have[service.Name+" "+backend.Address] = int(backend.Weight)
		}
	}
	n := 0
	for i := range s.Services {
		for _, backend := range s.Services[i].Backends {
			name := s.Services[i].Name + " " + backend.String()
			n++
			if w, ok := have[name]; !ok || w != backend.Weight {
				b.t.Errorf("%s has weight %d in the kernel (%t), want %d", name, w, ok, backend.Weight)
			}
			if r := x.last[name]; r.Number > 0 && r.Edits[0].Weight != nil && *r.Edits[0].Weight != backend.Weight {
				b.t.Errorf("%s has weight %d, but revision %d, the last of it, has %d", name, backend.Weight, r.Number, *r.Edits[0].Weight)
			}
		}
	}
	if n != len(have) {
		b.t.Errorf("the kernel has %d backends, want %d", len(have), n)
	}
}
