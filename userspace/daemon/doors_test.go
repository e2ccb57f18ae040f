package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/register"
	"fairlead/testenv/testca"
	"fairlead/userspace/control"
	"fairlead/userspace/view"
)

// sendLine sends a line to a socket and returns the answer.
func sendLine(t *testing.T, path, text string) string {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text+"\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// TestALineReplacesBackends has it be a change as all others are.
func TestALineReplacesBackends(t *testing.T) {
	a, _ := page(t, "a")
	b, _ := page(t, "b")
	c := controlAgent(t, oneSite(a))
	only := filepath.Join(c.opts.RunDir, "pool.sock")
	if answer := sendLine(t, only, "http://"+b); answer != "ok\n" {
		t.Fatalf("answer %q", answer)
	}
	if _, body := fetch(t, "/x"); body != "b /x" {
		t.Errorf("answer %q", body)
	}
	if r := c.Revision(); r.Number != 2 || !strings.HasPrefix(r.Who, fmt.Sprintf("uid %d", os.Geteuid())) {
		t.Errorf("revision %+v", r)
	}
	before := c.exported()
	for _, bad := range []string{"", "http://" + a + ",", "nonsense", "http://" + a + ",http://" + a} {
		if answer := sendLine(t, only, bad); !strings.HasPrefix(answer, "fault: ") || strings.Count(answer, "\n") != 1 {
			t.Errorf("%q: answer %q", bad, answer)
		}
	}
	if after := c.exported(); after != before || c.Revision().Number != 2 {
		t.Errorf("faults have changed it: revision %d\n%s", c.Revision().Number, after)
	}
	c.restart()
	if _, body := fetch(t, "/x"); body != "b /x" {
		t.Errorf("after a restart: answer %q", body)
	}
	c.must(control.Edit{Op: control.OpPutPool, Pool: "more", Spec: "{backends: [{address: \"" + a + "\"}]}"})
	if _, err := os.Lstat(only); err == nil {
		t.Error("pool.sock is there, though there are two pools")
	}
	if answer := sendLine(t, filepath.Join(c.opts.RunDir, "pool", "more.sock"), b); answer != "ok\n" {
		t.Errorf("answer %q", answer)
	}
	c.end()
	if all, _ := filepath.Glob(filepath.Join(c.opts.RunDir, "pool", "*")); len(all) > 0 {
		t.Errorf("left: %v", all)
	}
	c.start()
}

const (
	registerAt = "127.0.7.1:8500"
	secret     = "0123456789abcdef"
)

// TestBackendsRegister has them serve as long as they live, over a restart of the
// agent.
func TestBackendsRegister(t *testing.T) {
	a, _ := page(t, "a")
	c := controlAgent(t, oneSite()+"registration: {listen: "+registerAt+", tokens: [{token: "+secret+", pool: main, networks: [127.0.0.0/8]}]}\n")
	if status, _ := fetch(t, "/x"); status != http.StatusServiceUnavailable {
		t.Errorf("without backends: status %d", status)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	left := make(chan error, 1)
	go func() {
		left <- register.Keep(ctx, register.Options{URL: "http://" + registerAt, Token: secret, Address: a, TTL: 3 * time.Second, Client: client})
	}()
	serving := func(v view.View) bool { return len(v.Services[0].Backends) == 1 && v.Services[0].Backends[0].Serves }
	c.await("the backend", serving)
	if _, body := fetch(t, "/x"); body != "a /x" {
		t.Errorf("answer %q", body)
	}
	// It is served before it is kept.
	await(t, "its revision", func() bool { return c.Revision().Number > 1 })
	if r := c.Revision(); r.Number != 2 || r.Who != "registration from 127.0.0.1 (pool main)" {
		t.Errorf("revision %+v", r)
	}
	c.restart()
	if _, body := fetch(t, "/x"); body != "a /x" {
		t.Errorf("after a restart: answer %q", body)
	}
	leave()
	if err := <-left; err != nil {
		t.Error(err)
	}
	c.await("nobody", func(v view.View) bool { return len(v.Services[0].Backends) == 0 })
	await(t, "its revision", func() bool { return c.Revision().Number > 2 })
	if r := c.Revision(); r.Number != 3 {
		t.Errorf("revision %+v", r)
	}
}

// TestSilentBackendsOfServicesGo has one register with a service that lists backends
// itself, and beat once.
func TestSilentBackendsOfServicesGo(t *testing.T) {
	a, _ := page(t, "a")
	b, _ := page(t, "b")
	c := controlAgent(t, "services: [{name: web, listen: '"+site+"', forward: http, backends: [{address: '"+a+"'}]}]\nregistration: {listen: "+registerAt+", tokens: [{token: "+secret+", pool: web}]}\n")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	left := make(chan error, 1)
	go func() {
		left <- register.Keep(ctx, register.Options{URL: "http://" + registerAt, Token: secret, Address: b, TTL: 3 * time.Second, Client: client})
	}()
	c.await("the backend", func(v view.View) bool { return len(v.Services[0].Backends) == 2 && v.Services[0].Backends[1].Serves })
	came := time.Now()
	c.await("beats", func(view.View) bool { return time.Since(came) > 4*time.Second })
	if r := c.Revision(); r.Number != 2 {
		t.Errorf("revision %+v after beats", r)
	}
	c.restart()
	leave()
	if err := <-left; err != nil {
		t.Error(err)
	}
	c.await("nobody", func(v view.View) bool { return len(v.Services[0].Backends) == 1 })
	if r := c.Revision(); r.Number != 3 || !strings.HasPrefix(r.Who, "registration") {
		t.Errorf("revision %+v", r)
	}
}

// registerOnce registers a backend for so many seconds, and returns the status.
func registerOnce(t *testing.T, token, address string, ttl int) (status int) {
	t.Helper()
	body := fmt.Sprintf(`{"address": %q, "ttl_seconds": %d}`, address, ttl)
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+registerAt+"/register", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// TestSilentBackendsGo has one register that says nothing more.
func TestSilentBackendsGo(t *testing.T) {
	a, _ := page(t, "a")
	b, _ := page(t, "b")
	c := controlAgent(t, oneSite()+"registration: {listen: "+registerAt+", tokens: [{token: "+secret+", pool: main}]}\n")
	if status := registerOnce(t, secret, a, 1); status != http.StatusCreated {
		t.Fatalf("status %d", status)
	}
	c.must(about(control.OpAddBackend, "main", b))
	if status := registerOnce(t, secret, b, 1); status != http.StatusConflict {
		t.Errorf("one of the API: status %d", status)
	}
	c.served(b + "=1")
	cert, key := filepath.Join(t.TempDir(), "none.pem"), filepath.Join(t.TempDir(), "none.key")
	c.reload(oneSite() + "registration: {listen: 203.0.113.99:1, cert: " + cert + ", key: " + key + ", tokens: [{token: " + secret + ", pool: main}]}\n")
	c.await("the fault", func(v view.View) bool { return strings.Contains(v.ConfigError, cert) })
	ca := testca.New(t)
	shown, shownKey := ca.Issue(testca.Leaf{Names: []string{"localhost"}})
	for listen, want := range map[string]string{
		"0.0.0.0:8500":   "open registration: listen tcp 0.0.0.0:8500: bind: address already in use; to listen on the same port at another address, restart the agent",
		"203.0.113.99:1": "choose another address in registration: listen",
	} {
		c.reload(oneSite() + "registration: {listen: '" + listen + "', cert: " + shown + ", key: " + shownKey + ", tokens: [{token: " + secret + ", pool: main}]}\n")
		c.await(want, func(v view.View) bool { return strings.Contains(v.ConfigError, want) })
	}
	c.reload(oneSite() + "registration: {listen: 127.0.7.2:8500, tokens: [{token: " + secret + ", pool: main}]}\n")
	c.await("the configuration", func(v view.View) bool { return v.ConfigError == "" })
	if conn, err := net.Dial("tcp", registerAt); err == nil {
		conn.Close()
		t.Error("the old address answers still")
	}
}
