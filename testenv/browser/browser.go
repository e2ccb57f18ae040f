// Package browser drives a headless Chromium for tests, over its DevTools protocol.
//
// https://chromedevtools.github.io/devtools-protocol/ describes the methods.
package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// program is Debian's Chromium without a window.
const program = "chromium-headless-shell"

// patience is for a loaded machine.
const patience = time.Minute

// A Page is one that a browser of its own shows.
type Page struct {
	t    testing.TB
	conn *websocket.Conn
	last int
	// Faults are what the page's scripts threw or logged as errors.
	Faults []string
}

// Open shows url until the test ends, in a window of the given size. It skips the
// test where there is no Chromium, and fails it where FAIRLEAD_TEST_ROOT is set.
func Open(t testing.TB, url string, width, height int) *Page {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("FAIRLEAD_TEST_ROOT") != "" {
			t.Fatal(err)
		}
		t.Skip("no " + program + ": scripts/setup.sh test installs it")
	}
	dir := t.TempDir()
	cmd := exec.Command(program, "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb",
		"--remote-debugging-port=0", "--user-data-dir="+dir, fmt.Sprintf("--window-size=%d,%d", width, height), "about:blank")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with its renderers
		_ = cmd.Wait()                                      // killed, as it should be
	})
	p := &Page{t: t}
	p.connect(awaitPort(t, dir))
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		p.call(domain+".enable", nil, nil)
	}
	p.call("Page.navigate", map[string]any{"url": url}, nil)
	return p
}

// awaitPort returns where a browser listens once it says so.
func awaitPort(t testing.TB, dir string) (port string) {
	t.Helper()
	await(t, "the browser's port", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "DevToolsActivePort"))
		port, _, _ = strings.Cut(string(text), "\n")
		return err == nil && port != ""
	})
	return port
}

func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// connect takes the browser's only page.
func (p *Page) connect(port string) {
	p.t.Helper()
	res, err := http.Get("http://127.0.0.1:" + port + "/json/list")
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var pages []struct {
		Type string `json:"type"`
		URL  string `json:"webSocketDebuggerUrl"`
	}
	if err := json.NewDecoder(res.Body).Decode(&pages); err != nil || len(pages) == 0 {
		p.t.Fatalf("pages %v, error %v", pages, err)
	}
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	if p.conn, _, err = websocket.Dial(ctx, pages[0].URL, nil); err != nil {
		p.t.Fatal(err)
	}
	p.conn.SetReadLimit(64 << 20)
	p.t.Cleanup(func() { p.conn.CloseNow() })
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
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	p.last++
	request, err := json.Marshal(map[string]any{"id": p.last, "method": method, "params": params})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.conn.Write(ctx, websocket.MessageText, request); err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	for {
		_, text, err := p.conn.Read(ctx)
		if err != nil {
			p.t.Fatalf("%s: %v", method, err)
		}
		var m message
		if err := json.Unmarshal(text, &m); err != nil {
			p.t.Fatal(err)
		}
		if m.ID != p.last {
			p.note(&m)
			continue
		}
		if m.Error != nil {
			p.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				p.t.Fatal(err)
			}
		}
		return
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
	await(p.t, script, func() bool {
		var is bool
		return p.tryEval("Boolean("+script+")", &is) == nil && is
	})
}

// Prefer has the page be dark or light.
func (p *Page) Prefer(scheme string) {
	p.t.Helper()
	p.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// Picture returns what the page looks like, as PNG.
func (p *Page) Picture() []byte {
	p.t.Helper()
	var answer struct {
		Data []byte `json:"data"`
	}
	p.call("Page.captureScreenshot", map[string]any{"format": "png"}, &answer)
	return answer.Data
}
