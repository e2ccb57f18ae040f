package httpproxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"fairlead/testenv"
	"fairlead/userspace/model"
)

// A recorder is a backend that keeps what arrives.
type recorder struct {
	addr string
	mu   sync.Mutex
	all  []string
}

func record(t *testing.T) *recorder {
	r := &recorder{}
	r.addr = handle(t, func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // broken off, so it has not arrived
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, fmt.Sprintf("%s %s [%s]", req.Method, req.URL.RequestURI(), body))
	})
	return r
}

// taken returns what has arrived, and forgets it.
func (r *recorder) taken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

// judge starts a program that forwards to a backend, and returns where it listens.
func judge(t *testing.T, program, config, backend string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil && os.Getenv("FAIRLEAD_TEST_ROOT") != "" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	dir, addr := t.TempDir(), testenv.FreeAddress(t)
	file := filepath.Join(dir, "conf")
	text := strings.NewReplacer("LISTEN", addr, "BACKEND", backend, "DIR", dir).Replace(config)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append(args, file)...)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", program, log.String())
		}
	})
	eventually(t, program+" listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return addr
}

const nginxConfig = `
daemon off; master_process off; pid DIR/pid; error_log stderr;
events { worker_connections 64; }
http {
	access_log off; server_tokens off; client_header_timeout 1s; client_body_timeout 1s;
	client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
	server {
		listen LISTEN;
		location / { proxy_pass http://BACKEND; proxy_http_version 1.1; proxy_set_header Connection ""; }
	}
}
`

const haproxyConfig = `
defaults
	mode http
	timeout connect 5s
	timeout client 1s
	timeout server 20s
	timeout http-request 1s
frontend f
	bind LISTEN
	default_backend b
backend b
	server s BACKEND
`

// A way leads to a backend that keeps what arrives.
type way struct {
	name, addr string
	backend    *recorder
	arrived    [][]string // by oddity
	answers    []string
}

// take sends all oddities this way.
func (w *way) take() error {
	const after = "GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	for _, row := range oddities {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			return err
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, row.request+after) // who refuses it may have closed by now
		answer, _ := io.ReadAll(c)
		c.Close()
		w.answers = append(w.answers, string(answer))
		w.arrived = append(w.arrived, w.backend.taken())
	}
	return nil
}

// statuses returns how often each final status came.
func (w *way) statuses() map[int]uint64 {
	all := map[int]uint64{}
	for _, text := range w.answers {
		for r := bufio.NewReader(strings.NewReader(text)); ; {
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				break
			}
			_, _ = io.Copy(io.Discard, res.Body) // what is broken off has a status, too
			if res.StatusCode >= 200 {
				all[res.StatusCode]++
			}
		}
	}
	return all
}

// begins reports whether a list begins with another.
func begins(all, first []string) bool {
	return len(first) <= len(all) && slices.Equal(all[:len(first)], first)
}

// The same requests arrive as by way of nginx and HAProxy, or none.
func TestOddRequestsAreWhatOthersTakeThemForOrRefused(t *testing.T) {
	mine, nginx, haproxy := &way{name: "fairlead", backend: record(t)}, &way{name: "nginx", backend: record(t)}, &way{name: "haproxy", backend: record(t)}
	h := everything(usual)
	h.Bounds.HeaderTimeout, h.Bounds.KeepAlive = time.Second, time.Second // who still waits then has seen all
	h.Routes[0].Timeouts.Body = time.Second
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(mine.backend.addr)})
	mine.addr = f.addr
	nginx.addr = judge(t, "nginx", nginxConfig, nginx.backend.addr, "-c")
	haproxy.addr = judge(t, "haproxy", haproxyConfig, haproxy.backend.addr, "-db", "-q", "-f")
	var all errgroup.Group
	for _, w := range []*way{mine, nginx, haproxy} {
		all.Go(w.take)
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(mine.statuses(), f.Stats().Answers); diff != "" {
		t.Errorf("answers, as clients and as the proxy have counted them, -want +got:\n%s", diff)
	}
	for i, row := range oddities {
		got, others := mine.arrived[i], [][]string{nginx.arrived[i], haproxy.arrived[i]}
		if !slices.Equal(got, row.arrives) {
			t.Errorf("%s: %q arrives, want %q; answers %q", row.name, got, row.arrives, mine.answers[i])
		}
		agree := len(got) == 0
		for _, other := range others {
			agree = agree || begins(other, got)
			if !begins(other, got) && !begins(got, other) {
				t.Errorf("%s: %q arrives, by way of nginx and HAProxy %q", row.name, got, others)
			}
		}
		if !agree {
			t.Errorf("%s: %q arrives, nginx and HAProxy refuse it: %q, %q", row.name, got, nginx.answers[i], haproxy.answers[i])
		}
		if len(got) == 0 && !strings.HasPrefix(mine.answers[i], "HTTP/1.1 4") && !strings.HasPrefix(mine.answers[i], "HTTP/1.1 5") {
			t.Errorf("%s: answer %q, want that it is refused", row.name, mine.answers[i])
		}
	}
}
