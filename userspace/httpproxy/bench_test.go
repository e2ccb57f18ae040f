package httpproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"fairlead/testenv/testca"
	"fairlead/userspace/model"
)

// What a request costs the proxy. Clients and backends of these benchmarks allocate
// nothing, so that allocations are the proxy's; time is of all three.

const (
	smallSize = 5
	largeSize = 64 << 10
	benchBody = 9
	// benchGet is what a browser might send, without cookies.
	benchGet  = "GET /images/a.png?v=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
	benchPost = "POST /images/a.png?v=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Length: 9\r\n\r\nsome body"
)

// benchFront has a proxy serve on loopback before a backend whose answers have
// bodies of size bytes, and returns where.
func benchFront(tb testing.TB, p *Proxy, size int) string {
	tb.Helper()
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
	backend := benchListen(tb)
	go func() {
		for {
			c, err := backend.Accept()
			if err != nil {
				return
			}
			go benchAnswer(c, answer)
		}
	}()
	conf, pool, front := poolOf(backend.Addr().String()), NewPool(nil), benchListen(tb)
	conf.Retry = model.Retry{Attempts: 1, Budget: 20}
	update(pool, conf)
	t, err := NewTable(everything(model.HTTPTimeouts{Connect: 5 * time.Second, FirstByte: time.Minute, Idle: time.Minute}),
		func(string) *Pool { return pool }, nil)
	if err != nil {
		tb.Fatal(err)
	}
	p.Use(t)
	ctx, stop := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, front) }()
	tb.Cleanup(func() {
		stop()
		<-ended
		pool.Close()
	})
	return front.Addr().String()
}

func benchListen(tb testing.TB) *net.TCPListener {
	tb.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	return l
}

// benchAnswer answers requests, of which POST has a body of benchBody bytes.
func benchAnswer(c net.Conn, answer []byte) {
	defer c.Close()
	buf := make([]byte, 4096)
	for have := 0; have < len(buf); {
		n, err := c.Read(buf[have:])
		if err != nil {
			return
		}
		have += n
		_, body, whole := bytes.Cut(buf[:have], []byte("\r\n\r\n"))
		if !whole || bytes.HasPrefix(buf, []byte("POST")) && len(body) < benchBody {
			continue
		}
		have = 0
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// A benchClient sends the same request again and again.
type benchClient struct {
	net.Conn
	request []byte
	buf     []byte
	length  int // of an answer, header included; 0: not known yet
}

// ask sends the request and reads its answer.
func (c *benchClient) ask(size int) error {
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	for have := 0; ; {
		n, err := c.Read(c.buf[have:])
		if err != nil {
			return err
		}
		have += n
		if c.length == 0 {
			end := bytes.Index(c.buf[:have], []byte("\r\n\r\n"))
			if end < 0 {
				continue
			}
			c.length = end + 4 + size
		}
		if have >= c.length {
			return nil
		}
	}
}

// benchDial opens a connection of a client that sends request.
func benchDial(addr string, secure *tls.Config, request string) (*benchClient, error) {
	var c net.Conn
	var err error
	if secure == nil {
		c, err = net.Dial("tcp4", addr)
	} else {
		c, err = tls.Dial("tcp4", addr, secure)
	}
	return &benchClient{Conn: c, request: []byte(request), buf: make([]byte, 2*largeSize)}, err
}

func BenchmarkRequest(b *testing.B) {
	ca := testca.New(b)
	own := &tls.Config{Certificates: []tls.Certificate{ca.Pair("example.com")}}
	for _, row := range []struct {
		name    string
		own     *tls.Config
		request string
		size    int
	}{
		{"small answer", nil, benchGet, smallSize},
		{"64 KiB answer", nil, benchGet, largeSize},
		{"small answer over TLS", own, benchGet, smallSize},
		{"small body", nil, benchPost, smallSize},
	} {
		b.Run(row.name, func(b *testing.B) {
			addr := benchFront(b, &Proxy{TLS: row.own}, row.size)
			var secure *tls.Config
			if row.own != nil {
				secure = &tls.Config{RootCAs: ca.Pool(), ServerName: "example.com"}
			}
			b.ReportAllocs()
			b.SetBytes(int64(row.size))
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				c, err := benchDial(addr, secure, row.request)
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				for pb.Next() {
					if err := c.ask(row.size); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// mostAllocations is how many a small answer may cost: a few more than it does, as
// some that net/http keeps are lost with each collection.
const mostAllocations = 116

func TestRequestsAllocateLittle(t *testing.T) {
	c, err := benchDial(benchFront(t, &Proxy{}, smallSize), nil, benchGet)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func() {
		if err := c.ask(smallSize); err != nil {
			t.Fatal(err)
		}
	}
	ask() // a connection to the backend is made
	if got := testing.AllocsPerRun(500, ask); got > mostAllocations {
		t.Errorf("a request allocates %v times, want at most %d", got, mostAllocations)
	}
}
