package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

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
	configure(s, fmt.Sprintf(`  - {name: echo, listen: %[1]s:7, protocol: udp, backends: %[2]s, health: {type: none}}
  - {name: shop, listen: %[1]s:81, forward: http, routes: [{match: /cart/, pool: cart}, {match: /, pool: shelf}]}
  - {name: private, listen: %[1]s:8, protocol: udp, clients: {deny: [10.0.0.0/8]}, backends: %[2]s, health: {type: none}}
  - {name: mail, listen: %[1]s:25, forward: proxy, backends: %[2]s, health: {type: none}}
pools:
  cart: {backends: %[3]s, health: {type: none}}
  shelf: {backends: %[2]s, health: {type: http, path: /health, interval: 500ms, timeout: 500ms}}`, vip, s.BackendList(8080), s.BackendList(8081, 0)))
	s.StartAgent("--web", pageAt, "--config", filepath.Base(s.ConfigPath)) // the page shows its name
	s.AwaitView("health", func(v *view.View) bool {
		return !slices.ContainsFunc(v.Services, func(x view.Service) bool {
			return slices.ContainsFunc(x.Backends, func(b view.Backend) bool { return b.Pool == "shelf" && !b.Known })
		})
	})
	openTalks(t, s)
	echoes(t, s, 20)
	denied(t, s)
	p := browser.Open(t, func(cmd *exec.Cmd) { s.Balancer.Start(t, cmd) }, "http://"+pageAt+"/", 1280, 1640)
	p.Await("document.body.dataset.ready === 'yes' && document.querySelector('#packets canvas')")
	wantSameAsAPI(t, s, p)
	wantExplained(t, s, p)
	for _, line := range []string{
		"backend weight --pool web --backend " + s.BackendAddrs[0].String() + ":8080 --weight 5", "pool add --pool spare --backend " + s.BackendAddrs[0].String() + ":8080",
		"rollback 2", "backend drain --pool echo --backend " + s.BackendAddrs[1].String() + ":8080",
	} {
		s.Fairlead(strings.Fields(line)...).OK(t)
	}
	wantSameAsAPI(t, s, p)
	goOn(t, s)
	wantRatesOfAPI(t, p)
	if len(p.Faults) > 0 {
		t.Errorf("faults of the page: %v", p.Faults)
	}
	if dir := os.Getenv("FAIRLEAD_PICTURES"); dir != "" {
		s.Servers[2].Kill()
		p.Await(`document.querySelector(".unhealthy") && performance.now() > 45_000`) // most of a minute to plot
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

// goOn has clients that ask all the time.
func goOn(t *testing.T, s *stage.Stage) {
	t.Helper()
	for _, url := range []string{"http://" + vip + "/", "http://" + vip + ":81/"} {
		s.Start(s.Clients[0], tool(t, "wrk"), "-c", "4", "-t", "1", "-d", "10m", url) // it ends with the stage
	}
	conn, err := s.Clients[0].DialContext(t.Context(), "udp", vip+":8")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for pace := time.Tick(10 * time.Millisecond); ; <-pace {
			if _, err := io.WriteString(conn, "nobody may"); err != nil {
				return // the test has closed it
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
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
			["service " + body.dataset.service + " " + (row.dataset.backend ?? ""), [...row.querySelectorAll("[data-field=rung],[data-field=backends],[data-field=status],[data-field=serving],[data-field=flows],[data-field=weight],[data-field=latency],[data-field=since],[data-field=error]")].map((c) => c.textContent).join("|")])),
		...[...document.querySelectorAll("#drops tbody tr")].map((row) => ["drop " + row.dataset.verdict, row.querySelector("[data-field=packets]").textContent]),
		...[...document.querySelectorAll("#changes li")].map((li) => ["change " + li.dataset.revision, ["when", "who", "what"].map((x) => li.querySelector("." + x).textContent).join("|") + "|" + (li.querySelector("pre")?.textContent ?? "")]),
		...["agent", "xdp"].map((id) => [id, document.getElementById(id).textContent]),
	])`
	stage.Await(t, "the page to say what the API says", func() error {
		var got map[string]string
		p.Eval(script, &got)
		if diff := gocmp.Diff(told(t, s), got); diff != "" {
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
				Address, Status, LastError string
				Weight                     int
				Flows                      int `json:",string"`
				Since                      time.Time
				Latency                    *struct{ MedianSeconds, P95Seconds, P99Seconds float64 }
			}
		}
	}
	apiOf(t, s, "ListServices", &services)
	pools := pooled(t, s)
	all := map[string]string{}
	for _, x := range services.Services {
		flows, how := 0, map[string]int{}
		for _, b := range x.Backends {
			how[b.Status]++
			flows += b.Flows
			took := ""
			if l := b.Latency; l != nil {
				took = fmt.Sprintf("%s, %s, %s ms", millis(l.MedianSeconds), millis(l.P95Seconds), millis(l.P99Seconds))
			}
			all["service "+x.Name+" "+b.Address] = fmt.Sprintf("%s|%d|%d|%s|%s|%s", b.Status, b.Weight, b.Flows, took, clock(b.Since), b.LastError)
		}
		all["service "+x.Name+" "] = fmt.Sprintf("%s%s|%s|%s||%d|||", x.Rung, x.Reason, countedBy(how), cmp.Or(x.Serving, pools[x.Name]), flows)
	}
	var stats struct{ Verdicts map[string]json.Number }
	apiOf(t, s, "GetStats", &stats)
	for name, n := range stats.Verdicts {
		if strings.HasPrefix(name, "drop") && n != "0" {
			all["drop "+name] = n.String()
		}
	}
	var history struct{ Revisions []revision }
	apiOf(t, s, "ListHistory", &history)
	for _, r := range history.Revisions {
		all["change "+r.Revision] = fmt.Sprintf("%s|%s|%s|%s", clock(r.Time), r.Who, r.what(), r.Difference)
	}
	all["agent"], all["xdp"] = header(t, s)
	return all
}

// A revision is one of the history, as the API tells it.
type revision struct {
	Revision, Who, Difference, Rollback string
	Time                                time.Time
	Edits                               []struct {
		Op, Service, Pool, Match, Backend string
		Weight                            *int
	}
}

// what says as the page does what a revision did.
func (r *revision) what() string {
	if r.Rollback != "" {
		return "rollback to " + r.Rollback
	}
	var all []string
	for _, e := range r.Edits {
		words := []string{e.Op, e.Pool + e.Service, e.Match, e.Backend} // of one of the two, but for routes
		if e.Weight != nil {
			words = append(words, strconv.Itoa(*e.Weight))
		}
		all = append(all, strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " "))
	}
	if len(all) == 0 {
		return "the file" // the first
	}
	return strings.Join(all, "; ")
}

// header returns what the page has above all, as the API says it.
func header(t *testing.T, s *stage.Stage) (agent, xdp string) {
	t.Helper()
	var is struct {
		PID              int
		Started          time.Time
		Revision, Config string
		Edits            int
		XDP              struct {
			Interfaces []struct{ Name, Mode string }
		}
	}
	apiOf(t, s, "GetStatus", &is)
	for i, link := range is.XDP.Interfaces {
		xdp += []string{"XDP ", ", "}[min(i, 1)] + link.Name + ": " + link.Mode
	}
	agent = fmt.Sprintf("process %d, ready since %s, revision %s, %s", is.PID, clock(is.Started), is.Revision, is.Config)
	switch {
	case is.Edits == 1:
		agent += ", 1 change on top"
	case is.Edits > 1:
		agent += fmt.Sprintf(", %d changes on top", is.Edits)
	}
	return agent, xdp
}

// clock returns a time as the page writes those of today.
func clock(at time.Time) string { return at.Local().Format(time.TimeOnly) }

// wantRatesOfAPI wants the newest rates that the page tells to be the differences of
// what the API had answered it.
func wantRatesOfAPI(t *testing.T, p *browser.Page) {
	t.Helper()
	var is bool
	p.Eval(`{ const real = fetch; window.answers = []; window.fetch = async (...args) => { const answer = await real(...args); if (args[0].endsWith("/GetStats")) answers.push(await answer.clone().json()); return answer }; true }`, &is)
	const script = `({ answers, shown: Object.fromEntries(["packets", "proxy"].map((id) => [id, [...document.querySelectorAll("#" + id + " .u-value")].map((v) => v.textContent)])), drops: document.querySelector("#drops [data-field=rate]").textContent })`
	stage.Await(t, "rates", func() error {
		var got struct {
			Answers []sampled
			Shown   map[string][]string
			Drops   string
		}
		p.Eval(script, &got)
		want := map[string][]string{"packets": rates(got.Answers, sampled.packets), "proxy": rates(got.Answers, sampled.proxied)}
		if diff := gocmp.Diff(want, got.Shown); diff != "" || slices.Contains([]string{want["packets"][1], want["packets"][3], want["proxy"][1]}, "0") {
			return fmt.Errorf("rates of %d answers (-API +page):\n%s", len(got.Answers), diff)
		}
		if got.Drops != want["packets"][3] {
			return fmt.Errorf("%s dropped a second for one reason, %s for all", got.Drops, want["packets"][3])
		}
		return nil
	})
}

// sampled is what GetStats answers, as far as the page plots it.
type sampled struct {
	Time, ProxyTime time.Time
	Kinds           struct {
		Forward, Pass, Drop, Answer float64 `json:",string"`
	}
	Proxy struct {
		HTTP struct {
			Requests float64 `json:",string"`
		}
		TCP struct {
			Accepted float64 `json:",string"`
		}
		UDP struct {
			ToBackendsDatagrams, ToClientsDatagrams float64 `json:",string"`
		}
	}
}

func (c sampled) packets() (time.Time, []float64) {
	return c.Time, []float64{c.Kinds.Forward, c.Kinds.Pass, c.Kinds.Drop, c.Kinds.Answer}
}

func (c sampled) proxied() (time.Time, []float64) {
	return c.ProxyTime, []float64{c.Proxy.HTTP.Requests, c.Proxy.TCP.Accepted, c.Proxy.UDP.ToBackendsDatagrams + c.Proxy.UDP.ToClientsDatagrams}
}

// rates returns the time of the last answer, and how much more a second it has than the
// last one that was counted at another time; nil without two such.
func rates(answers []sampled, of func(sampled) (time.Time, []float64)) []string {
	for i := len(answers) - 2; i >= 0; i-- {
		last, sums := of(answers[len(answers)-1])
		if at, before := of(answers[i]); at != last {
			shown := []string{clock(last)}
			for k := range sums {
				shown = append(shown, pace((sums[k]-before[k])/last.Sub(at).Seconds()))
			}
			return shown
		}
	}
	return []string{"", ""}
}

// grouped returns a number as the page writes it.
func grouped(n float64) string {
	whole, part, _ := strings.Cut(strconv.FormatFloat(n, 'f', 2, 64), ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return strings.TrimRight(strings.TrimRight(whole+"."+part, "0"), ".")
}

// pace returns a rate as the page writes it.
func pace(n float64) string {
	if n >= 10 {
		n = math.Round(n)
	}
	return grouped(n)
}

// millis returns seconds as the page writes milliseconds.
func millis(seconds float64) string {
	return grouped(1000 * seconds)
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
