package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/leak"
	"fairlead/userspace/control"
	"fairlead/userspace/model"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

const token = "0123456789abcdef"

// usual has a token for a pool of one network, and one for another pool.
var usual = model.Registration{Tokens: []model.RegistrationToken{
	{Token: token, Pool: "web", Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}, MaxTTL: time.Minute},
	{Token: token + "db", Pool: "db", MaxTTL: 5 * time.Second},
}}

// A plane keeps backends as an agent would, with their leases.
type plane struct {
	control.Plane
	mu      sync.Mutex
	edits   []control.Edit
	history []string
	number  uint64
	err     error  // of every change
	after   func() // called after each one, before it is answered
	changed []chan struct{}
}

func (p *plane) Change(_ context.Context, r control.Request) (control.Revision, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return control.Revision{}, p.err
	}
	edits, history := slices.Clone(p.edits), p.history
	for _, e := range r.Edits {
		at := slices.IndexFunc(edits, func(x control.Edit) bool { return x.Pool == e.Pool && x.Backend == e.Backend })
		switch {
		case e.Op == control.OpAddBackend && at >= 0:
			return control.Revision{}, fmt.Errorf("%w: %s", control.ErrExists, e.Backend)
		case e.Op == control.OpAddBackend:
			edits = append(edits, e)
		case at < 0:
			return control.Revision{}, fmt.Errorf("%w: %s", control.ErrNotFound, e.Backend)
		case e.Op == control.OpRemoveBackend:
			edits = slices.Delete(edits, at, at+1)
		}
		history = append(history, fmt.Sprintf("%s: %s %s %s", r.Who, e.Op, e.Pool, e.Backend))
	}
	p.edits, p.history = edits, history
	p.number++
	p.say()
	made := control.Revision{Number: p.number}
	if f := p.after; f != nil {
		p.mu.Unlock()
		f()
		p.mu.Lock()
	}
	return made, nil
}

func (p *plane) say() {
	for _, c := range p.changed {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (p *plane) Revision() control.Revision {
	p.mu.Lock()
	defer p.mu.Unlock()
	return control.Revision{Number: p.number}
}

func (p *plane) Edits() []control.Edit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.edits)
}

func (p *plane) Watch(context.Context) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := make(chan struct{}, 1)
	p.changed = append(p.changed, c)
	return c
}

// has returns the backends, each as "pool address".
func (p *plane) has() (all []string) {
	for _, e := range p.Edits() {
		all = append(all, e.Pool+" "+e.Backend)
	}
	return all
}

func (p *plane) told() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.history)
}

// open returns a registry that runs until the test ends.
func open(t *testing.T, p *plane) *Registry {
	r := New(p, slog.New(slog.DiscardHandler))
	r.Use(&usual)
	var group sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	group.Go(func() { r.Run(ctx) })
	t.Cleanup(func() {
		stop()
		group.Wait()
	})
	return r
}

// ask sends a request from 10.0.0.1 and returns the status and the answer.
func ask(r *Registry, method, path, secret, body string) (status int, answer string) {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.RemoteAddr = "10.0.0.1:4000"
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// mustRegister registers a backend and returns its id.
func mustRegister(t *testing.T, r *Registry, body string) string {
	t.Helper()
	status, text := ask(r, "POST", "/register", token, body)
	var answer Registered
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusCreated {
		t.Fatalf("status %d, answer %s", status, text)
	}
	return answer.ID
}

func TestRequests(t *testing.T) {
	const web = "POST /register"
	for _, row := range []struct {
		name, request, token, body string
		err                        error // of the change
		status                     int
		answer                     string // a part of it
		has                        string // "" for nobody
	}{
		{"an address", web, token, `{"address": "10.1.2.3:8080"}`, nil, 201, `"pool":"web","address":"10.1.2.3:8080","ttl_seconds":10`, "web 10.1.2.3:8080"},
		{"a time", web, token, `{"address": "10.1.2.3:8080", "ttl_seconds": 60}`, nil, 201, `"ttl_seconds":60`, "web 10.1.2.3:8080"},
		{"a URL", web, token, `{"address": "https://10.1.2.3/a"}`, nil, 201, `"address":"https://10.1.2.3/a"`, "web https://10.1.2.3/a"},
		{"the sender's", web, token, `{"address": ":80"}`, nil, 201, `"address":"10.0.0.1:80"`, "web 10.0.0.1:80"},
		{"IPv6", web, token, `{"address": "[2001:0db8::1]:80"}`, nil, 201, `"address":"[2001:db8::1]:80"`, "web [2001:db8::1]:80"},
		{"any network, short time", web, token + "db", `{"address": "192.0.2.1:80"}`, nil, 201, `"pool":"db","address":"192.0.2.1:80","ttl_seconds":5`, "db 192.0.2.1:80"},
		{"another network", web, token, `{"address": "192.0.2.1:80"}`, nil, 403, "192.0.2.1 is not in the networks of the token", ""},
		{"another network, URL", web, token, `{"address": "http://192.0.2.1"}`, nil, 403, "192.0.2.1 is not in", ""},
		{"a name", web, token, `{"address": "localhost:80"}`, nil, 400, "address is not like", ""},
		{"mapped", web, token, `{"address": "[::ffff:10.0.0.1]:80"}`, nil, 400, "address is not like", ""},
		{"a zone", web, token, `{"address": "[fe80::1%eth0]:80"}`, nil, 400, "address is not like", ""},
		{"a user", web, token, `{"address": "http://a@10.0.0.1:80"}`, nil, 400, "address is not like", ""},
		{"a variable of the agent's", web, token, `{"address": "http://10.0.0.1:80/${HOME}"}`, nil, 400, "address is not like", ""},
		{"no port", web, token, `{"address": "10.0.0.1"}`, nil, 400, "address is not like", ""},
		{"port 0", web, token, `{"address": ":0"}`, nil, 400, "address is not like", ""},
		{"no address", web, token, `{}`, nil, 400, "address is not like", ""},
		{"no JSON", web, token, `address`, nil, 400, "the body is not like", ""},
		{"another key", web, token, `{"addr": "10.0.0.1:80"}`, nil, 400, `unknown field \"addr\"`, ""},
		{"two", web, token, `{"address": "10.0.0.1:80"}{}`, nil, 400, "more than one value", ""},
		{"too long", web, token, `{"address": "` + strings.Repeat("1", 5000) + `"}`, nil, 400, "too large", ""},
		{"too long a time", web, token, `{"address": ":80", "ttl_seconds": 61}`, nil, 400, "ttl_seconds is not from 1 to 60", ""},
		{"time back", web, token, `{"address": ":80", "ttl_seconds": -1}`, nil, 400, "ttl_seconds is not from 1 to 60", ""},
		{"heavy", web, token, `{"address": ":80", "weight": 1001}`, nil, 400, "weight is not from 0 to 1000", ""},
		{"no token", web, "", `{"address": ":80"}`, nil, 401, "no token, or a wrong one", ""},
		{"a wrong token", web, "x" + token, `{"address": ":80"}`, nil, 401, "no token, or a wrong one", ""},
		{"fails its check", web, token, `{"address": ":80"}`, fmt.Errorf("%w: refused", control.ErrUnhealthy), 422, "backend fails its check: refused", ""},
		{"the file has it", web, token, `{"address": ":80"}`, control.ErrExists, 409, "already exists", ""},
		{"not of that pool", web, token, `{"address": ":80"}`, fmt.Errorf("%w: x", control.ErrInvalid), 400, "invalid change: x", ""},
		{"ending", web, token, `{"address": ":80"}`, control.ErrUnavailable, 503, "agent takes no changes now", ""},
		{"not on this host", web, token, `{"address": ":80"}`, fmt.Errorf("%w: no room", control.ErrRefused), 422, "cannot come in force: no room", ""},
		{"broken", web, token, `{"address": ":80"}`, errors.New("disk full"), 500, "disk full", ""},
		{"nobody's id", "PUT /register/x", token, "", nil, 404, "register it again", ""},
		{"nobody leaves", "DELETE /register/x", token, "", nil, 404, "no backend of that id", ""},
		{"another path", "POST /", token, "", nil, 404, "there is nothing but /register", ""},
		{"another method", "GET /register", token, "", nil, 405, "use POST", ""},
		{"another method of one", "POST /register/x", token, "", nil, 405, "use PUT or DELETE", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := &plane{err: row.err}
			r := open(t, p)
			method, path, _ := strings.Cut(row.request, " ")
			status, answer := ask(r, method, path, row.token, row.body)
			if status != row.status || !strings.Contains(answer, row.answer) || strings.Contains(answer, token) {
				t.Errorf("status %d, answer %s", status, answer)
			}
			if got := strings.Join(p.has(), ","); got != row.has {
				t.Errorf("backends %s, want %s", got, row.has)
			}
		})
	}
}

// TestSilence has backends go within a second after their time, and not before.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &plane{}
		r, begin := open(t, p), time.Now()
		mustRegister(t, r, `{"address": ":1", "ttl_seconds": 5}`)
		id := mustRegister(t, r, `{"address": ":2", "ttl_seconds": 3}`)
		mustRegister(t, r, `{"address": ":3", "ttl_seconds": 60}`)
		for range 4 { // 2 and 3 go on in both ways
			time.Sleep(2 * time.Second)
			if status, answer := ask(r, "PUT", "/register/"+id, token, ""); status != http.StatusNoContent {
				t.Fatalf("status %d, answer %s", status, answer)
			}
			if status, answer := ask(r, "POST", "/register", token, `{"address": ":3", "ttl_seconds": 4}`); status != http.StatusOK {
				t.Fatalf("status %d, answer %s", status, answer)
			}
			want := []string{"web 10.0.0.1:1", "web 10.0.0.1:2", "web 10.0.0.1:3"}
			if time.Since(begin) >= 5*time.Second+time.Second/2 {
				want = want[1:]
			}
			if diff := cmp.Diff(want, p.has()); diff != "" {
				t.Errorf("after %v (-want +got):\n%s", time.Since(begin), diff)
			}
		}
		time.Sleep(3*time.Second - time.Millisecond)
		if got := p.has(); len(got) != 2 {
			t.Errorf("gone too soon: %v", got)
		}
		time.Sleep(500 * time.Millisecond)
		if diff := cmp.Diff([]string{"web 10.0.0.1:3"}, p.has()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		time.Sleep(time.Second)
		if got := p.has(); got != nil {
			t.Errorf("not gone: %v", got)
		}
		if status, _ := ask(r, "PUT", "/register/"+id, token, ""); status != http.StatusNotFound {
			t.Errorf("who has gone: status %d", status)
		}
		want := []string{
			"registration from 10.0.0.1 (pool web): add-backend web 10.0.0.1:1", "registration from 10.0.0.1 (pool web): add-backend web 10.0.0.1:2",
			"registration from 10.0.0.1 (pool web): add-backend web 10.0.0.1:3", "registration (silent): remove-backend web 10.0.0.1:1",
			"registration (silent): remove-backend web 10.0.0.1:2", "registration (silent): remove-backend web 10.0.0.1:3",
		}
		if diff := cmp.Diff(want, p.told()); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
	})
}

// TestSilenceWhileNothingCanChange tries again until it can.
func TestSilenceWhileNothingCanChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &plane{}
		r := open(t, p)
		mustRegister(t, r, `{"address": ":1", "ttl_seconds": 2}`)
		p.mu.Lock()
		p.err = control.ErrUnavailable
		p.mu.Unlock()
		time.Sleep(10 * time.Second)
		if got := p.has(); len(got) != 1 {
			t.Fatalf("backends %v", got)
		}
		p.mu.Lock()
		p.err = nil
		p.mu.Unlock()
		time.Sleep(time.Second)
		if got := p.has(); got != nil {
			t.Errorf("backends %v", got)
		}
	})
}

// TestRestart has leases begin anew, where the agent kept the edits.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &plane{edits: []control.Edit{
			{Op: control.OpAddBackend, Pool: "web", Backend: "10.0.0.1:1", Lease: 5 * time.Second},
			{Op: control.OpAddBackend, Pool: "web", Backend: "10.0.0.1:2", Lease: 5 * time.Second},
			{Op: control.OpAddBackend, Pool: "web", Backend: "10.0.0.1:3"}, // of the API
		}}
		r := open(t, p)
		time.Sleep(5*time.Second - time.Millisecond)
		if status, answer := ask(r, "POST", "/register", token, `{"address": ":2", "ttl_seconds": 5}`); status != http.StatusOK {
			t.Errorf("status %d, answer %s", status, answer)
		}
		if got := p.has(); len(got) != 3 {
			t.Errorf("gone too soon: %v", got)
		}
		time.Sleep(time.Second)
		if diff := cmp.Diff([]string{"web 10.0.0.1:2", "web 10.0.0.1:3"}, p.has()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// TestRemovedByOthers has a backend register again that the API took away.
func TestRemovedByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &plane{}
		r := open(t, p)
		id := mustRegister(t, r, `{"address": ":1"}`)
		if _, err := p.Change(t.Context(), control.Request{Edits: []control.Edit{{Op: control.OpRemoveBackend, Pool: "web", Backend: "10.0.0.1:1"}}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if status, _ := ask(r, "PUT", "/register/"+id, token, ""); status != http.StatusNotFound {
			t.Errorf("status %d", status)
		}
		mustRegister(t, r, `{"address": ":1"}`)
		if status, _ := ask(r, "DELETE", "/register/"+id, token+"db", ""); status != http.StatusNotFound {
			t.Errorf("with another pool's token: status %d", status)
		}
		if status, _ := ask(r, "DELETE", "/register/"+id, token, ""); status != http.StatusNoContent || p.has() != nil {
			t.Errorf("status %d, backends %v", status, p.has())
		}
	})
}

// TestRemovedWhileItRegisters has the API take a backend away before the registry has
// the answer, and nothing change after that.
func TestRemovedWhileItRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &plane{}
		r := open(t, p)
		p.after = func() {
			p.after = nil
			if _, err := p.Change(t.Context(), control.Request{Edits: []control.Edit{{Op: control.OpRemoveBackend, Pool: "web", Backend: "10.0.0.1:1"}}}); err != nil {
				t.Error(err)
			}
			synctest.Wait() // the registry has seen it
		}
		id := mustRegister(t, r, `{"address": ":1"}`)
		if status, _ := ask(r, "PUT", "/register/"+id, token, ""); status != http.StatusNotFound {
			t.Errorf("status %d", status)
		}
		mustRegister(t, r, `{"address": ":1"}`)
		if diff := cmp.Diff([]string{"web 10.0.0.1:1"}, p.has()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &plane{}
		r := open(t, p)
		mustRegister(t, r, `{"address": ":1", "weight": 5}`)
		for _, body := range []string{`{"address": ":1", "weight": 5}`, `{"address": ":1", "weight": 6}`, `{"address": ":1", "weight": 6}`} {
			if status, answer := ask(r, "POST", "/register", token, body); status != http.StatusOK {
				t.Errorf("status %d, answer %s", status, answer)
			}
		}
		want := []string{"registration from 10.0.0.1 (pool web): add-backend web 10.0.0.1:1", "registration: set-weight web 10.0.0.1:1"}
		if diff := cmp.Diff(want, p.told()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
