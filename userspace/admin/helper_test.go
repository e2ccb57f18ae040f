package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/testenv/leak"
	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/admin/adminpb/adminpbconnect"
	"fairlead/userspace/control"
	"fairlead/userspace/model"
	"fairlead/userspace/peercred"
	"fairlead/userspace/view"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// A plane is a [control.Plane] that notes what it is asked and answers what it is told.
type plane struct {
	mu       sync.Mutex
	requests []control.Request
	err      error
	revision control.Revision
	history  []control.Revision // the newest first
	view     *view.View
	changed  chan struct{}
	used     atomic.Int64 // how often somebody asked for anything
	during   func()       // what happens while somebody asks; nil is nothing
}

func newPlane() *plane {
	return &plane{revision: control.Revision{Number: 7, Time: time.Unix(1e9, 0), Who: "somebody"}, view: sample(), changed: make(chan struct{}, 1)}
}

func (p *plane) note(ctx context.Context, r control.Request) (control.Revision, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used.Add(1)
	if p.requests = append(p.requests, r); p.during != nil {
		p.during()
	}
	if ctx.Err() != nil {
		return control.Revision{}, ctx.Err()
	}
	return p.revision, p.err
}

// asked returns what was asked since the last call.
func (p *plane) asked() []control.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.requests
	p.requests = nil
	return all
}

// set changes what is told.
func (p *plane) set(f func()) {
	p.mu.Lock()
	f()
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *plane) Change(ctx context.Context, r control.Request) (control.Revision, error) {
	return p.note(ctx, r)
}

func (p *plane) Plan(ctx context.Context, r control.Request) (string, error) {
	_, err := p.note(ctx, r)
	return "+ difference\n", err
}

func (p *plane) Rollback(ctx context.Context, number uint64, r control.Request) (control.Revision, error) {
	made, err := p.note(ctx, r)
	made.Rollback = number
	return made, err
}

func (p *plane) Revision() control.Revision {
	p.used.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.revision
}

func (p *plane) Export() ([]byte, error) {
	p.used.Add(1)
	return []byte("services: []\n"), p.err
}

func (p *plane) History(before uint64, most int) (all []control.Revision, err error) {
	p.used.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.history {
		if (before == 0 || r.Number < before) && len(all) < most {
			all = append(all, r)
		}
	}
	return all, p.err
}

func (p *plane) View() *view.View { return p.Now(context.Background()) }

func (p *plane) Now(context.Context) *view.View {
	p.used.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}

func (p *plane) Edits() []control.Edit { return nil }

func (p *plane) Watch(context.Context) <-chan struct{} { return p.changed }

// A datapath is a [Datapath] of some flows.
type datapath struct {
	mu    sync.Mutex
	flows []*adminpb.Flow
	asked []Filter
	err   error
	used  atomic.Int64 // how often somebody asked for anything
	kills atomic.Int64
}

func (d *datapath) note(f *Filter) error {
	d.used.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, *f)
	return d.err
}

func (d *datapath) Flows(_ context.Context, which *Filter, f func(*adminpb.Flow) bool) error {
	if err := d.note(which); err != nil {
		return err
	}
	for _, x := range d.flows {
		if !f(x) {
			break
		}
	}
	return nil
}

func (d *datapath) Kill(_ context.Context, which *Filter) (uint64, error) {
	d.kills.Add(1)
	return uint64(len(d.flows)), d.note(which)
}

func (d *datapath) Stats(context.Context) (*adminpb.Stats, error) {
	d.used.Add(1)
	return &adminpb.Stats{Packets: 1 << 40}, d.err
}

func (d *datapath) Explain(_ context.Context, r *adminpb.ExplainRequest) (*adminpb.Explanation, error) {
	d.used.Add(1)
	return &adminpb.Explanation{Verdict: "pass_other", Packet: &adminpb.Packet{Source: r.GetFrom()}}, d.err
}

// sample is a view with a pool of each status.
func sample() *view.View {
	up := func(address string, weight int) view.Backend {
		return view.Backend{Address: address, Weight: weight, Share: 100, Up: true, Known: true, Serves: weight > 0}
	}
	down := view.Backend{Address: "10.0.0.3:80", Weight: 1, Known: true, LastError: "connection refused"}
	ejected := up("10.0.2.2:80", 1)
	until := time.Unix(2e9, 0)
	ejected.Ejected, ejected.Pool = &until, "api"
	api := up("10.0.2.1:80", 1)
	api.Pool = "api"
	return &view.View{
		Pools: []view.Pool{{Name: "spare", Backends: []view.Backend{up("10.0.5.1:80", 1)}}},
		PID:   12, Started: time.Unix(1e9, 0), Written: time.Unix(1e9, 0), Config: "/etc/f.yaml", XDP: view.XDP{Mode: model.XDPAuto, Interfaces: []view.Interface{}},
		Services: []view.Service{
			{Name: "web", Listen: "203.0.113.10:80", Protocol: model.TCP, Forward: model.ForwardDNAT, Rung: view.RungNative, Serving: model.ServingUp,
				Backends: []view.Backend{up("10.0.0.1:80", 1), up("10.0.0.2:80", 0), down}},
			{Name: "site", Listen: "203.0.113.11:80", Protocol: model.TCP, Forward: model.ForwardHTTP, Rung: view.RungHTTP, Backends: []view.Backend{api, ejected}},
			{Name: "shop", Listen: "203.0.113.12:80", Protocol: model.TCP, Forward: model.ForwardHTTP, Rung: view.RungHTTP, Backends: []view.Backend{api, ejected}},
			{Name: "dns", Listen: "203.0.113.10:53", Protocol: model.UDP, Rung: view.RungProxy, Backends: []view.Backend{{Address: "10.0.3.1:53", Weight: 1, Up: true}}},
			{Name: "gone", Listen: "203.0.113.10:99", Protocol: model.TCP, Backends: []view.Backend{{Address: "10.0.4.1:53", Weight: 1, Known: true}}},
		},
	}
}

// A world is a server with what it asks.
type world struct {
	*Server
	plane    *plane
	datapath *datapath
	socket   string
	end      func() // lets the server end, and waits for it
}

// serve starts a server on a unix socket.
func serve(t *testing.T) *world {
	t.Helper()
	p, d := newPlane(), &datapath{}
	w := &world{plane: p, datapath: d, Server: &Server{Plane: p, Datapath: d, Log: discard}}
	w.socket = filepath.Join(t.TempDir(), "a.sock")
	l, err := peercred.Listen(w.socket, peercred.Allowed{})
	if err != nil {
		t.Fatal(err)
	}
	w.run(t, l)
	return w
}

// run has a server answer on listeners until the test ends.
func (w *world) run(t *testing.T, listeners ...net.Listener) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx, listeners...) }()
	var once sync.Once
	w.end = func() {
		once.Do(func() {
			cancel(os.ErrClosed)
			if err := <-done; !errors.Is(err, os.ErrClosed) {
				t.Errorf("Serve returned %v, want the cause of its context", err)
			}
		})
	}
	t.Cleanup(w.end)
}

// over returns what speaks HTTP/2, or 1, by a dialer.
func over(t *testing.T, two bool, dial func() (net.Conn, error)) *http.Client {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(!two)
	protocols.SetUnencryptedHTTP2(two)
	tr := &http.Transport{Protocols: &protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() }}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// client returns a client of the server, as this process.
func (w *world) client(t *testing.T) adminpbconnect.AdminClient {
	t.Helper()
	return adminpbconnect.NewAdminClient(over(t, true, func() (net.Conn, error) { return net.Dial("unix", w.socket) }), "http://fairlead")
}

var discard = slog.New(slog.DiscardHandler)

// verified is the state of a connection whose client has shown a certificate.
func verified(t *testing.T, c *tls.Certificate) *tls.ConnectionState {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	all := []*x509.Certificate{leaf}
	return &tls.ConnectionState{PeerCertificates: all, VerifiedChains: [][]*x509.Certificate{all}}
}

// callerHere is what this process is called.
func callerHere(t *testing.T) string {
	t.Helper()
	return caller{peer: &peercred.Peer{UID: uint32(os.Geteuid())}}.String()
}

// jsonNames returns the names that a struct's fields have in JSON.
func jsonNames(v any) map[string]bool {
	names := map[string]bool{}
	of := reflect.TypeOf(v)
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		names[name] = true
	}
	return names
}
