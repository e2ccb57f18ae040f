package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv"
	"fairlead/testenv/browser"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// pageAt is where the page is, on the balancer.
const pageAt = "127.0.0.1:8081"

// TestThePageShowsWhatTheAPISays has a browser beside the agent, and traffic over all
// rungs. With FAIRLEAD_PICTURES it keeps the picture of the README in that directory.
func TestThePageShowsWhatTheAPISays(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	configure(s, fmt.Sprintf(`  - {name: echo, listen: %s:7, protocol: udp, backends: %s, health: {type: none}}
  - {name: shop, listen: %[1]s:81, forward: http, backends: %s, health: {type: http, path: /health, interval: 500ms, timeout: 500ms}}
  - {name: private, listen: %[1]s:8, protocol: udp, clients: {deny: [10.0.0.0/8]}, backends: %[3]s, health: {type: none}}
  - {name: mail, listen: %[1]s:25, forward: proxy, backends: %[3]s, health: {type: none}}`, vip, s.BackendList(8080), s.BackendList(8080)))
	s.StartAgent("--web", pageAt)
	s.AwaitView("health", func(v *view.View) bool {
		return !slices.ContainsFunc(v.Services, func(x view.Service) bool {
			return slices.ContainsFunc(x.Backends, func(b view.Backend) bool { return x.Name == "shop" && !b.Known })
		})
	})
	openTalks(t, s)
	echoes(t, s, 20)
	denied(t, s)
	p := browser.Open(t, func(cmd *exec.Cmd) { s.Balancer.Start(t, cmd) }, "http://"+pageAt+"/", 1280, 1640)
	p.Await("document.body.dataset.ready === 'yes' && document.querySelector('#packets canvas')")
	wantSameAsAPI(t, s, p)
	wantExplained(t, s, p)
	if len(p.Faults) > 0 {
		t.Errorf("faults of the page: %v", p.Faults)
	}
	if dir := os.Getenv("FAIRLEAD_PICTURES"); dir != "" {
		goOn(t, s, p)
		if err := os.WriteFile(filepath.Join(dir, "page.png"), p.Picture(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// denied has XDP drop something.
func denied(t *testing.T, s *stage.Stage) {
	t.Helper()
	conn, err := s.Clients[0].DialContext(t.Context(), "udp", vip+":8")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		if _, err := io.WriteString(conn, "nobody may"); err != nil {
			t.Fatal(err)
		}
	}
	stage.Await(t, "drops", func() error {
		var stats struct{ Kinds map[string]json.Number }
		if apiOf(t, s, "GetStats", &stats); stats.Kinds["drop"] != "3" {
			return fmt.Errorf("kinds %v", stats.Kinds)
		}
		return nil
	})
}

// goOn has what the picture is to show: rates of a while, changes, and a backend that
// is gone.
func goOn(t *testing.T, s *stage.Stage, p *browser.Page) {
	t.Helper()
	for _, args := range [][]string{{"backend", "weight", "--pool", "web", "--backend", s.BackendAddrs[0].String() + ":8080", "--weight", "5"}, {"backend", "drain", "--pool", "echo", "--backend", s.BackendAddrs[1].String() + ":8080"}} {
		s.Run(s.Balancer, programs.Fairlead, args...).OK(t)
	}
	for i, url := range []string{"http://" + vip + "/", "http://" + vip + ":81/"} {
		s.Run(s.Clients[0], tool(t, "wrk"), "-c", "8", "-t", "1", "-d", fmt.Sprint(40-20*i, "s"), url).OK(t)
	}
	s.Servers[2].Kill()
	p.Await(`document.querySelector(".unhealthy")`)
}

// apiOf asks the socket of the admin API for a method.
func apiOf(t *testing.T, s *stage.Stage, method string, into any) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.RunDir, "admin.sock"))
	}}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Post("http://fairlead/fairlead.admin.v1.Admin/"+method, "application/json", bytes.NewBufferString("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, error %v", method, res.StatusCode, err)
	}
}

// wantSameAsAPI compares the page with what the socket says, when nothing goes on.
func wantSameAsAPI(t *testing.T, s *stage.Stage, p *browser.Page) {
	t.Helper()
	const script = `Object.fromEntries([
		...[...document.querySelectorAll("#services tbody")].flatMap((body) => [...body.rows].map((row) =>
			["service " + body.dataset.service + " " + (row.dataset.backend ?? ""), [...row.querySelectorAll("[data-field=rung],[data-field=status],[data-field=serving],[data-field=flows],[data-field=weight],[data-field=latency]")].map((c) => c.textContent).join("|")])),
		...[...document.querySelectorAll("#drops tbody tr")].map((row) => ["drop " + row.dataset.verdict, row.querySelector("[data-field=packets]").textContent]),
		...[...document.querySelectorAll("#changes li")].map((li) => ["change " + li.dataset.revision, li.querySelector(".who").textContent]),
	])`
	stage.Await(t, "the page to say what the API says", func() error {
		var got map[string]string
		p.Eval(script, &got)
		if diff := cmp.Diff(told(t, s), got); diff != "" {
			return fmt.Errorf("page (-API +page):\n%s", diff)
		}
		return nil
	})
}

// told returns what the API says, as the page has it.
func told(t *testing.T, s *stage.Stage) map[string]string {
	t.Helper()
	var services struct {
		Services []struct {
			Name, Rung, Reason, Serving string
			Backends                    []struct {
				Address, Status string
				Weight          int
				Flows           int `json:",string"`
				Latency         *struct{ MedianSeconds, P95Seconds, P99Seconds float64 }
			}
		}
	}
	apiOf(t, s, "ListServices", &services)
	all := map[string]string{}
	for _, x := range services.Services {
		flows := 0
		for _, b := range x.Backends {
			flows += b.Flows
			took := ""
			if l := b.Latency; l != nil {
				took = fmt.Sprintf("%s, %s, %s ms", millis(l.MedianSeconds), millis(l.P95Seconds), millis(l.P99Seconds))
			}
			all["service "+x.Name+" "+b.Address] = fmt.Sprintf("%s|%d|%d|%s", b.Status, b.Weight, b.Flows, took)
		}
		all["service "+x.Name+" "] = fmt.Sprintf("%s%s|%s||%d|", x.Rung, x.Reason, x.Serving, flows)
	}
	var stats struct{ Verdicts map[string]json.Number }
	apiOf(t, s, "GetStats", &stats)
	for name, n := range stats.Verdicts {
		if strings.HasPrefix(name, "drop") && n != "0" {
			all["drop "+name] = n.String()
		}
	}
	var history struct {
		Revisions []struct {
			Revision json.Number
			Who      string
		}
	}
	apiOf(t, s, "ListHistory", &history)
	for _, r := range history.Revisions {
		all["change "+r.Revision.String()] = r.Who
	}
	return all
}

// millis returns seconds as the page writes milliseconds.
func millis(seconds float64) string {
	return strings.TrimRight(strings.TrimRight(strconv.FormatFloat(1000*seconds, 'f', 2, 64), "0"), ".")
}

// wantExplained asks by the form what becomes of a packet.
func wantExplained(t *testing.T, s *stage.Stage, p *browser.Page) {
	t.Helper()
	var is bool
	p.Eval(fmt.Sprintf(`{ const f = document.getElementById("explain").elements; f.from.value = "%s:4000"; f.to.value = "%s:80"; document.getElementById("explain").requestSubmit(); true }`, s.ClientAddrs[0], vip), &is)
	p.Await(`document.querySelector("#explanation [data-field=backend], #explanation .fault")`)
	var text string
	p.Eval(`document.getElementById("explanation").textContent`, &text)
	if !strings.Contains(text, "Verdict") || !strings.Contains(text, vip) {
		t.Errorf("explained: %s", text)
	}
}
