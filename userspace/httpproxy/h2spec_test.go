package httpproxy

import (
	"crypto/tls"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"fairlead/userspace/model"
)

// h2specFails are the cases of h2spec that the proxy fails, and why. A server of
// net/http alone fails them as well.
var h2specFails = map[string]string{
	"http2/3.5: Sends invalid connection preface":                                                                 "without TLS the port is HTTP/1.1's, too, in whose words the answer is",
	"http2/6.5.3: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                          "net/http refuses a frame of settings that has one twice",
	`http2/8.1.2.2: Sends a HEADERS frame that contains the connection-specific header field`:                     "net/http drops it (golang/go#26321)",
	`http2/8.1.2.2: Sends a HEADERS frame that contains the TE header field with any value other than "trailers"`: "net/http drops it (golang/go#26321)",
}

// h2spec judges the server on an address, and returns the cases that it fails.
func h2spec(t *testing.T, program, addr string, args ...string) (failed []string) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	args = append(args, "-h", "127.0.0.1", "-p", port, "-j", report, "-o", "3")
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	text, readErr := os.ReadFile(report)
	if readErr != nil {
		t.Errorf("h2spec: %v, %v\n%s", err, readErr, out)
		return nil
	}
	var suites struct {
		Suites []struct {
			Package string `xml:"package,attr"`
			Cases   []struct {
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil {
		t.Errorf("h2spec: %v", err)
	}
	cases := 0
	for _, s := range suites.Suites {
		for _, c := range s.Cases {
			cases++
			if c.Failure != nil || c.Error != nil {
				failed = append(failed, s.Package+": "+c.Name)
			}
		}
	}
	if cases < 140 {
		t.Errorf("h2spec has judged %d cases\n%s", cases, out)
	}
	return failed
}

func TestH2specFailsNoMoreThanIsKnown(t *testing.T) {
	text, err := exec.Command("../../scripts/h2spec-fetch.sh").Output()
	if err != nil && os.Getenv("FAIRLEAD_TEST_ROOT") == "" {
		t.Skip("build h2spec:", err)
	} else if err != nil {
		t.Fatal("build h2spec:", err)
	}
	program := strings.TrimSpace(string(text))
	hello := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }
	pools := map[string]*model.Pool{"main": poolOf(handle(t, hello))}
	bare, bareTLS := alone(t, hello, false), alone(t, hello, true)
	secret := &tls.Config{Certificates: bareTLS.TLS.Certificates}

	var byPlain, byTLS, byBare, byBareTLS []string
	var running sync.WaitGroup
	judge := func(failed *[]string, addr string, args ...string) {
		running.Go(func() { *failed = h2spec(t, program, addr, args...) })
	}
	judge(&byPlain, serve(t, everything(usual), pools).addr)
	judge(&byTLS, serveWith(t, &Proxy{TLS: secret}, everything(usual), pools).addr, "-t", "-k")
	judge(&byBare, bare.Listener.Addr().String())
	judge(&byBareTLS, bareTLS.Listener.Addr().String(), "-t", "-k")
	running.Wait()
	for _, c := range append(byPlain, byTLS...) {
		if h2specFails[c] == "" {
			t.Errorf("the proxy fails %s", c)
		}
	}
	for c, why := range h2specFails {
		switch {
		case !slices.Contains(byBare, c) || slices.Contains(byTLS, c) && !slices.Contains(byBareTLS, c):
			t.Errorf("a bare server does not fail %s", c)
		case !slices.Contains(byPlain, c):
			t.Errorf("the proxy does not fail %s any more: %s", c, why)
		}
	}
	if len(h2specFails) > 4 {
		t.Errorf("%d failures are known, want at most four", len(h2specFails))
	}
}

// alone opens a server of net/http that speaks HTTP/2, with TLS or without.
func alone(t *testing.T, h http.HandlerFunc, secure bool) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(s.Close)
	if s.EnableHTTP2 = secure; secure {
		s.StartTLS()
		return s
	}
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	return s
}
