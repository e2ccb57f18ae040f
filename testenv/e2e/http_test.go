package e2e

import (
	"strings"
	"syscall"
	"testing"

	"fairlead/testenv"
	"fairlead/userspace/view"
)

// TestHTTPBesideXDP has an HTTP service and one that XDP forwards, over the same
// servers and one address.
func TestHTTPBesideXDP(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	s.Configure(`
interfaces: %s
services:
  - {name: packets, listen: %s:81, backends: %s}
  - name: web
    listen: %s:80
    forward: http
    routes: [{match: /images/, pool: images}, {match: /, pool: main}]
pools:
  images: {backends: [{url: "http://%s:8080/static"}]}
  main: {backends: %s, health: {type: http, path: /health, interval: 100ms, timeout: 100ms, rise: 1, fall: 1}}
`, s.Links(), vip, s.BackendList(8080), vip, s.BackendAddrs[0], s.BackendList(8080))
	agent := s.StartAgent()
	v := s.AwaitView("both serve", func(v *view.View) bool { return len(v.Services) == 2 && v.Services[1].Standby })
	if packets, web := v.Services[0].Rung, v.Services[1].Rung; packets == view.RungProxy || web != view.RungHTTP {
		t.Errorf("rungs %q and %q", packets, web)
	}
	if out := s.Fairlead("status").OK(t); !strings.Contains(out, "proxy (http)") || !strings.Contains(out, "web images") {
		t.Errorf("status says\n%s", out)
	}
	for path, want := range map[string]string{"images/a%2Fb?q": "GET /static/images/a%2Fb?q", "x": "GET /x"} {
		answer, err := s.Get(0, web+path)
		if err != nil || !strings.Contains(answer.Body, want) {
			t.Errorf("%s: %+v, error %v", path, answer, err)
		}
		if own := s.BackendAddrs[0].Prev().String(); path != "x" && !strings.HasPrefix(answer.Client, own+":") {
			t.Errorf("the server saw %s, want %s", answer.Client, own)
		}
	}
	count, err := s.Spread(0, web, 30)
	if err != nil || count["backend1"] != 10 || count["backend2"] != 10 || count["backend3"] != 10 {
		t.Errorf("answers %v, error %v", count, err)
	}
	if count, err = s.Spread(0, "http://"+vip+":81/", 30); err != nil || len(count) != 3 {
		t.Errorf("answers through XDP %v, error %v", count, err)
	}
	s.Servers[2].Kill()
	count, err = s.Spread(0, web, 60) // before its check finds out, too
	if err != nil || count["backend3"] != 0 || count["backend1"]+count["backend2"] != 60 {
		t.Errorf("answers %v, error %v after a server was killed", count, err)
	}
	if code := agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with status %d", code)
	}
}
