package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

const patience = 20 * time.Second // for a loaded machine

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// start runs the program until the test ends and returns its port.
func start(t *testing.T, getenv func(string) string, args ...string) (port int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := newApp(w, io.Discard, getenv).RunContext(ctx, append([]string{"dummyserver"}, args...))
		_ = w.CloseWithError(err)
		done <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("first line: %v", err)
	}
	_, rest, _ := strings.Cut(line, "listens on port ")
	if _, err := fmt.Sscanf(rest, "%d", &port); err != nil {
		t.Fatalf("first line %q: %v", line, err)
	}
	return port
}

// get asks port for path from a connection of its own and returns the answer,
// its body and the address asked from.
func get(t *testing.T, port int, path string) (r *http.Response, body, from string) {
	t.Helper()
	var local net.Addr
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				local = c.LocalAddr()
			}
			return c, err
		},
	}}
	r, err := client.Post(fmt.Sprintf("http://127.0.0.1:%d%s", port, path), "text/plain", strings.NewReader("a<b"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(b), local.String()
}

func TestThePageShowsMessageClientAndRequest(t *testing.T) {
	port := start(t, env(), "--port", "0", "--message", "<one> & two")
	for _, path := range []string{"/", "/any/where?x=%3Cy%3E"} {
		r, body, from := get(t, port, path)
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: status %d, type %q", path, r.StatusCode, r.Header.Get("Content-Type"))
		}
		for _, want := range []string{"<h1>&lt;one&gt; &amp; two</h1>", "You are " + from + ".", "POST " + path + "\na&lt;b"} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: %q is not in\n%s", path, want, body)
			}
		}
	}
}

func TestHealthIsOK(t *testing.T) {
	port := start(t, env(), "--port", "0", "--message", "one")
	for _, path := range []string{"/health", "/healthz", "/healthcheck"} {
		r, body, from := get(t, port, path)
		if r.StatusCode != 200 || body != "ok\n" {
			t.Errorf("%s: status %d, body %q", path, r.StatusCode, body)
		}
		if m, c := r.Header.Get("X-Message"), r.Header.Get("X-Client"); m != "one" || c != from {
			t.Errorf("%s: message %q, client %q, want one, %s", path, m, c, from)
		}
	}
}

func TestUDPAnswersOnTheSamePort(t *testing.T) {
	port := start(t, env(), "--port", "0", "--message", "one")
	c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	buf := make([]byte, 64<<10)
	for _, size := range []int{0, 5, 60_000} {
		payload := strings.Repeat("x", size)
		if _, err := c.Write([]byte(payload)); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("one %s %s", c.LocalAddr(), payload); string(buf[:n]) != want {
			t.Errorf("%d bytes: answer of %d bytes %.60q, want %.60q", size, n, buf[:n], want)
		}
	}
}

func TestTheEnvironmentWinsOverFlags(t *testing.T) {
	port := start(t, env("PORT", "0", "MESSAGE", "from env"), "--port", "nonsense", "--message", "from flag")
	if _, body, _ := get(t, port, "/"); !strings.Contains(body, "<h1>from env</h1>") {
		t.Errorf("the page lacks the message of the environment:\n%s", body)
	}
}

// run runs the program with a context that is done already, so that it ends.
func run(t *testing.T, getenv func(string) string, args ...string) (out string, code int, errOut string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var o, e bytes.Buffer
	err := newApp(&o, &e, getenv).RunContext(ctx, append([]string{"dummyserver"}, args...))
	code = exitCode(&e, err)
	return o.String(), code, e.String()
}

func TestUsageFaultsAreOneLineAndStatus2(t *testing.T) {
	for _, row := range []struct {
		name string
		env  func(string) string
		args []string
		want string
	}{
		{"unknown flag", env(), []string{"--prot", "1"}, "dummyserver: wrong usage: flag provided but not defined: -prot; try dummyserver --help\n"},
		{"flag without value", env(), []string{"--port"}, "dummyserver: wrong usage: flag needs an argument: -port; try dummyserver --help\n"},
		{"argument", env(), []string{"9000", "--message", "x"}, "dummyserver: wrong usage: unexpected argument \"9000\"; try dummyserver --help\n"},
		{"bad port", env(), []string{"--port", "65536"}, "dummyserver: wrong usage: --port is \"65536\": use a number from 0 to 65535\n"},
		{"bad port in the environment", env("PORT", "http"), nil, "dummyserver: wrong usage: the environment variable PORT is \"http\": use a number from 0 to 65535\n"},
		{"completion is not offered", env(), []string{"--generate-bash-completion"}, "dummyserver: wrong usage: flag provided but not defined: -generate-bash-completion; try dummyserver --help\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			out, code, errOut := run(t, row.env, row.args...)
			if code != 2 || errOut != row.want || out != "" {
				t.Errorf("status %d, stderr %q, stdout %q; want 2 and %q", code, errOut, out, row.want)
			}
		})
	}
}

func TestHelpNamesTheOrder(t *testing.T) {
	out, code, errOut := run(t, env(), "--help")
	if code != 0 || errOut != "" {
		t.Fatalf("status %d, stderr %q", code, errOut)
	}
	for _, want := range []string{"PORT and MESSAGE win over the flags", "--port PORT", "default: \"9000\"", "--message TEXT"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestAUsedPortIsOneLineAndStatus1(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			port, closer := occupy(t, network)
			defer func() { _ = closer.Close() }()
			_, err := listen(t.Context(), port, "x")
			if err == nil {
				t.Fatal("no error")
			}
			var e bytes.Buffer
			if code := exitCode(&e, err); code != 1 {
				t.Errorf("status %d, want 1", code)
			}
			want := fmt.Sprintf("dummyserver: listen %s :%d: bind: address already in use; choose another with --port or PORT\n", network, port)
			if e.String() != want {
				t.Errorf("stderr %q, want %q", e.String(), want)
			}
		})
	}
}

// occupy takes a port that the other network has free.
func occupy(t *testing.T, network string) (uint16, io.Closer) {
	t.Helper()
	s, err := listen(t.Context(), 0, "x")
	if err != nil {
		t.Fatal(err)
	}
	keep, free := io.Closer(s.tcp), io.Closer(s.udp)
	if network == "udp" {
		keep, free = free, keep
	}
	port := uint16(s.port())
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	return port, keep
}

func TestTheEndWaitsForARunningRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := listen(ctx, 0, "one")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	// The interim answer says that the request runs: it waits for its body.
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("interim answer %q, %v", line, err)
	}
	cancel()
	for { // the end has begun when nobody listens
		probe, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port()))
		if err != nil {
			break
		}
		_ = probe.Close()
	}
	if _, err := io.WriteString(c, "hi"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || !strings.Contains(string(rest), "200 OK") {
		t.Errorf("answer %q, %v", rest, err)
	}
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
