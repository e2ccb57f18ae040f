package splice

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// each runs a benchmark against a backend itself, through the Proxy and, where
// it is installed, through HAProxy, both in a process of their own.
func each(b *testing.B, backend netip.AddrPort, run func(*testing.B, netip.AddrPort)) {
	b.Run("direct", func(b *testing.B) { run(b, backend) })
	b.Run("splice", func(b *testing.B) { run(b, start(b, backend).addr) })
	b.Run("haproxy", func(b *testing.B) { run(b, haproxy(b, backend)) })
}

// haproxy starts HAProxy in TCP mode.
func haproxy(b *testing.B, backend netip.AddrPort) netip.AddrPort {
	b.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		b.Skip("haproxy is not installed")
	}
	l, err := Listen(b.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	socket, err := l.File()
	if err != nil {
		b.Fatal(err)
	}
	defer socket.Close()
	conf := filepath.Join(b.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(`global
  maxconn 4000
defaults
  mode tcp
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  option splice-auto
listen l
  bind fd@3
  server s %s
`, backend)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(path, "-db", "-q", "-f", conf)
	cmd.ExtraFiles = []*os.File{socket}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return addrPort(l.Addr())
}

const request, response = 100, 1000

// answer is a server for requests and responses of fixed sizes.
func answer(c *net.TCPConn) {
	req, resp := make([]byte, request), make([]byte, response)
	for {
		if _, err := io.ReadFull(c, req); err != nil {
			return
		}
		if _, err := c.Write(resp); err != nil {
			return
		}
	}
}

func BenchmarkRequests(b *testing.B) {
	each(b, listen(b, answer), func(b *testing.B, addr netip.AddrPort) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			c, err := net.Dial("tcp", addr.String())
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			req, resp := make([]byte, request), make([]byte, response)
			for pb.Next() {
				if err := exchange(c, req, resp); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

func exchange(c net.Conn, req, resp []byte) error {
	if _, err := c.Write(req); err != nil {
		return err
	}
	_, err := io.ReadFull(c, resp)
	return err
}

func BenchmarkConnections(b *testing.B) {
	each(b, listen(b, answer), func(b *testing.B, addr netip.AddrPort) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			req, resp := make([]byte, request), make([]byte, response)
			for pb.Next() {
				c, err := net.Dial("tcp", addr.String())
				if err != nil {
					b.Error(err)
					return
				}
				err = exchange(c, req, resp)
				// A reset leaves no port in TIME_WAIT.
				reset(c.(*net.TCPConn))
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

func BenchmarkBulk(b *testing.B) {
	const chunk = 256 << 10
	back := listen(b, func(c *net.TCPConn) {
		_ = c.SetDeadline(time.Time{})
		_, _ = io.Copy(io.Discard, struct{ io.Reader }{c})
	})
	each(b, back, func(b *testing.B, addr netip.AddrPort) {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		b.SetBytes(chunk)
		buf := make([]byte, chunk)
		for b.Loop() {
			if _, err := c.Write(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
