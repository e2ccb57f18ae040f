// Package browser drives a headless Chromium for tests, over its DevTools protocol.
//
// https://chromedevtools.github.io/devtools-protocol/ describes the methods.
package browser

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead/testenv"
)

// program is Debian's Chromium without a window.
const program = "chromium-headless-shell"

// patience is for a loaded machine.
const patience = time.Minute

// A Page is one that a browser of its own shows.
type Page struct {
	t       testing.TB
	to      *os.File
	from    *bufio.Reader
	session string
	last    int
	// Faults are what the page's scripts threw or logged as errors.
	Faults []string
}

// Open shows url until the test ends, in a window of the given size. It starts the
// browser by start, which fails the test if it cannot. It skips the test where there
// is no Chromium, and fails it where FAIRLEAD_TEST_ROOT is set.
func Open(t testing.TB, start func(*exec.Cmd), url string, width, height int) *Page {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("FAIRLEAD_TEST_ROOT") != "" {
			t.Fatal(err)
		}
		t.Skip("no " + program + ": scripts/setup.sh test installs it")
	}
	cmd := exec.Command(program, "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb",
		"--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), fmt.Sprintf("--window-size=%d,%d", width, height), "about:blank")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	its, to := pipe(t)
	from, theirs := pipe(t)
	cmd.ExtraFiles = []*os.File{its, theirs} // descriptors 3 and 4, as the browser has them
	start(cmd)
	its.Close()
	theirs.Close()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with its renderers
		_ = cmd.Wait()                                      // killed, as it should be
	})
	p := &Page{t: t, to: to, from: bufio.NewReader(from)}
	p.attach()
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		p.call(domain+".enable", nil, nil)
	}
	p.call("Page.navigate", map[string]any{"url": url}, nil)
	return p
}

// pipe returns both ends of one, which are closed when the test ends.
func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

// attach takes the browser's first page.
func (p *Page) attach() {
	p.t.Helper()
	var all struct {
		Targets []struct {
			ID   string `json:"targetId"`
			Type string `json:"type"`
		} `json:"targetInfos"`
	}
	page := ""
	testenv.Await(p.t, "the browser's page", func() bool {
		p.call("Target.getTargets", nil, &all)
		for _, x := range all.Targets {
			if x.Type == "page" {
				page = x.ID
			}
		}
		return page != ""
	})
	var attached struct {
		Session string `json:"sessionId"`
	}
	p.call("Target.attachToTarget", map[string]any{"targetId": page, "flatten": true}, &attached)
	p.session = attached.Session
}

// A message is an answer or an event.
type message struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// call calls a method and reads its result into result, if that is not nil.
func (p *Page) call(method string, params map[string]any, result any) {
	p.t.Helper()
	p.last++
	call := map[string]any{"id": p.last, "method": method, "params": params}
	if p.session != "" {
		call["sessionId"] = p.session
	}
	request, err := json.Marshal(call)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.to.Write(append(request, 0)); err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	m := p.answer(method)
	if m.Error != nil {
		p.t.Fatalf("%s: %s", method, m.Error.Message)
	}
	if result != nil {
		if err := json.Unmarshal(m.Result, result); err != nil {
			p.t.Fatal(err)
		}
	}
}

// answer returns the answer to the last call.
func (p *Page) answer(method string) *message {
	p.t.Helper()
	stop := time.AfterFunc(patience, func() { p.to.Close() }) // who reads nothing ends
	defer stop.Stop()
	for {
		text, err := p.from.ReadBytes(0)
		if err != nil {
			p.t.Fatalf("%s: %v", method, err)
		}
		m := &message{}
		if err := json.Unmarshal(text[:len(text)-1], m); err != nil {
			p.t.Fatal(err)
		}
		if m.ID == p.last {
			return m
		}
		p.note(m)
	}
}

// note keeps what went wrong on the page.
func (p *Page) note(m *message) {
	switch {
	case m.Method == "Runtime.exceptionThrown",
		m.Method == "Log.entryAdded" && strings.Contains(string(m.Params), `"level":"error"`):
		p.Faults = append(p.Faults, string(m.Params))
	}
}

// Eval runs a script on the page and reads the value of its last expression, of which
// a promise is awaited, into value.
func (p *Page) Eval(script string, value any) {
	p.t.Helper()
	if err := p.tryEval(script, value); err != nil {
		p.t.Fatal(err)
	}
}

func (p *Page) tryEval(script string, value any) error {
	p.t.Helper()
	var answer struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	p.call("Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true}, &answer)
	if answer.Exception != nil {
		return errors.New(answer.Exception.Exception.Description)
	}
	if len(answer.Result.Value) == 0 {
		return fmt.Errorf("no value: %s", script)
	}
	return json.Unmarshal(answer.Result.Value, value)
}

// Await waits until a script is true on the page.
func (p *Page) Await(script string) {
	p.t.Helper()
	testenv.Await(p.t, script, func() bool {
		var is bool
		return p.tryEval("Boolean("+script+")", &is) == nil && is
	})
}

// Prefer has the page be dark or light.
func (p *Page) Prefer(scheme string) {
	p.t.Helper()
	p.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// Picture returns what the whole page looks like, as PNG.
func (p *Page) Picture() []byte {
	p.t.Helper()
	var answer struct {
		Data []byte `json:"data"`
	}
	var layout struct {
		Size struct{ Width, Height float64 } `json:"cssContentSize"`
	}
	p.call("Page.getLayoutMetrics", nil, &layout)
	p.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true, "clip": map[string]any{
		"x": 0, "y": 0, "width": layout.Size.Width, "height": layout.Size.Height, "scale": 1,
	}}, &answer)
	return answer.Data
}
