package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"fairlead/testenv/stage"
)

// TestClientsOfHTTP has programs that people use ask the agent, and compares what
// they say, what it says and what its servers say.
func TestClientsOfHTTP(t *testing.T) {
	s := openShop(t, true)
	t.Run("curl gets", s.curlGets)
	t.Run("curl sends", s.curlSends)
	t.Run("nghttp", s.nghttp)
	t.Run("h2load", s.h2load)
	t.Run("events", s.eventsReachCurl)
	t.Run("WebSockets", s.chats)
	s.settle(t, uint64(len(eventWays)))
	t.Run("wrk", s.wrk) // the last: it leaves requests without an answer
	if code := s.agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the agent ended with status %d", code)
	}
}

// curl returns what makes curl a client of the shop.
func (s *shop) curl(args ...string) []string {
	return append([]string{"--silent", "--show-error", "--max-time", "60", "--cacert", s.ca.File,
		"--resolve", shopName + ":80:" + vip, "--resolve", shopName + ":443:" + vip}, args...)
}

// curlGets has rows of what curl is asked, and says of each request: its version,
// status, connections that were made for it, and bytes.
func (s *shop) curlGets(t *testing.T) {
	for _, row := range []struct {
		name, args, url, want string
		times                 int
	}{
		{"HTTP/1.0", "--http1.0", plainShop + "x", "1 200 1 6", 1},
		{"HTTP/1.1", "--http1.1", plainShop + "x", "1.1 200 1 6", 1},
		{"HTTP/2 by prior knowledge", "--http2-prior-knowledge", plainShop + "x", "2 200 1 6", 1},
		{"an offer of HTTP/2, which is not taken", "--http2", plainShop + "x", "1.1 200 1 6", 1},
		{"HTTP/1.1 with TLS", "--http1.1", tlsShop + "x", "1.1 200 1 6", 1},
		{"HTTP/2 with TLS", "--http2", tlsShop + "x", "2 200 1 6", 1},
		{"HTTP/2 to servers", "--http2", tlsShop + "two/x", "2 200 1 6", 1},
		{"only the header", "--head", plainShop + "x", "1.1 200 1 0", 1},
		{"many over one connection", "--http1.1", plainShop + "x?[1-50]", "1.1 200 1 6" + strings.Repeat("\n1.1 200 0 6", 49), 50},
		{"many over one connection of HTTP/2", "--http2", tlsShop + "x?[1-50]", "2 200 1 6" + strings.Repeat("\n2 200 0 6", 49), 50},
	} {
		wantCount := s.counts(t, row.times)
		out := s.run(t, "curl", s.curl(row.args, "--output", "/dev/null", "--write-out", `%{http_version} %{response_code} %{num_connects} %{size_download}\n`, row.url)...)
		if strings.TrimSpace(out) != row.want {
			t.Errorf("%s: %q, want %q", row.name, out, row.want)
		}
		wantCount()
	}
}

// goods writes a file of 1 MiB, and returns its name, its bytes and what they add up to.
func (s *shop) goods(t *testing.T) (file string, text []byte, sum string) {
	t.Helper()
	text = make([]byte, 1<<20)
	_, _ = rand.Read(text) // it never fails
	file = filepath.Join(s.Dir, "goods")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	all := sha256.Sum256(text)
	return file, text, hex.EncodeToString(all[:])
}

// curlSends has curl send a file that comes back, with a known length once it is
// asked for, and in chunks.
func (s *shop) curlSends(t *testing.T) {
	file, text, sum := s.goods(t)
	got, header := filepath.Join(s.Dir, "got"), filepath.Join(s.Dir, "header")
	for _, url := range []string{plainShop + "echo", plainShop + "two/echo", tlsShop + "echo", tlsShop + "two/echo"} {
		second := "--http2-prior-knowledge"
		if strings.HasPrefix(url, tlsShop) {
			second = "--http2"
		}
		for _, version := range []string{"--http1.1", second} {
			for _, how := range []string{"Expect: 100-continue", "Transfer-Encoding: chunked"} {
				if how[0] == 'T' && version != "--http1.1" {
					how = "Expect:" // HTTP/2 has no chunks
				}
				wantCount := s.counts(t, 1)
				r := s.Run(s.Clients[0], tool(t, "curl"), s.curl(version, "--verbose", "--expect100-timeout", "60", "--header", how,
					"--upload-file", file, "--output", got, "--dump-header", header, url)...)
				r.OK(t)
				if back, err := os.ReadFile(got); err != nil || !bytes.Equal(back, text) {
					t.Errorf("%s %s %s: %d bytes of %d come back, error %v", version, how, url, len(back), len(text), err)
				}
				if h, err := os.ReadFile(header); err != nil || !strings.Contains(strings.ToLower(string(h)), "x-sum: "+sum) {
					t.Errorf("%s %s %s: no trailer in %q, error %v", version, how, url, h, err)
				}
				if how[:3] == "Exp" && version == "--http1.1" && !strings.Contains(r.Stderr, "< HTTP/1.1 100 Continue") {
					t.Errorf("%s: nobody asks for the body: %s", url, r.Stderr)
				}
				wantCount()
			}
		}
	}
}

// nghttp has nghttp ask for much at once, and send trailers.
func (s *shop) nghttp(t *testing.T) {
	file, _, sum := s.goods(t)
	for _, base := range []string{"http://" + vip, "https://" + vip} {
		wantCount := s.counts(t, 101)
		out := s.run(t, "nghttp", "--no-verify-peer", "--null-out", "--stat", "--multiply", "100", base+"/x")
		if n := len(regexp.MustCompile(`(?m)\s200\s+6\s+/x$`).FindAllString(out, -1)); n != 100 {
			t.Errorf("%s: %d of 100 answers:\n%s", base, n, out)
		}
		out = s.run(t, "nghttp", "--no-verify-peer", "--null-out", "--verbose", "--data", file, "--trailer", "x-end: of goods", base+"/two/echo")
		for _, want := range []string{":status: 200", "x-sum: " + sum, "x-ended: of goods"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", base, want, out)
			}
		}
		wantCount()
	}
}

// h2load has h2load send numbers of requests that are known.
func (s *shop) h2load(t *testing.T) {
	order := filepath.Join(s.Dir, "order")
	if err := os.WriteFile(order, bytes.Repeat([]byte("order "), 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	n := slow(500, 100000)
	for _, row := range []struct{ name, args string }{
		{"HTTP/1.1", "--h1 http://" + vip + "/x"},
		{"HTTP/2", "--max-concurrent-streams=10 http://" + vip + "/x"},
		{"HTTP/2 to servers", "--max-concurrent-streams=10 http://" + vip + "/two/x"},
		{"HTTP/1.1 with TLS", "--h1 https://" + vip + "/x"},
		{"HTTP/2 with TLS", "--max-concurrent-streams=10 https://" + vip + "/x"},
		{"bodies both ways", "--max-concurrent-streams=10 --data=" + order + " https://" + vip + "/two/echo"},
	} {
		wantCount := s.counts(t, n)
		out := s.run(t, "h2load", append([]string{"--requests", strconv.Itoa(n), "--clients", "20"}, strings.Fields(row.args)...)...)
		for _, want := range []string{
			fmt.Sprintf("requests: %d total, %[1]d started, %[1]d done, %[1]d succeeded, 0 failed, 0 errored, 0 timeout", n),
			fmt.Sprintf("status codes: %d 2xx, 0 3xx, 0 4xx, 0 5xx", n),
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", row.name, want, out)
			}
		}
		wantCount()
	}
}

// wrk has wrk ask as fast as it can. At its end it leaves without some answers.
func (s *shop) wrk(t *testing.T) {
	const clients = 20
	for _, base := range []string{"http://" + vip, "https://" + vip} {
		before := s.asked.Load()
		out := s.run(t, "wrk", "--threads", "1", "--connections", strconv.Itoa(clients), "--duration", "1s", base+"/x")
		said := regexp.MustCompile(`(\d+) requests in`).FindStringSubmatch(out)
		if said == nil || strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") {
			t.Fatalf("%s: %s", base, out)
		}
		n, err := strconv.ParseInt(said[1], 10, 64)
		if err != nil || n == 0 {
			t.Fatalf("%s: %s", base, out)
		}
		stage.Await(t, "the requests that wrk has left", func() error {
			v, err := s.View()
			if err == nil && (v.Proxy.HTTP.Running != 0 || v.Proxy.HTTP.Requests < uint64(before+n)) {
				err = fmt.Errorf("%+v", v.Proxy.HTTP)
			}
			return err
		})
		if got := s.asked.Load() - before; got < n || got > n+clients {
			t.Errorf("%s: the servers got %d requests, wrk counts %d", base, got, n)
		}
	}
}
