package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// visitors are clients that come all the time, each by its own way, until stop is
// called, which reports how often they came. Nobody may be turned away.
func visitors(t *testing.T, ways ...func() error) (stop func() int64) {
	t.Helper()
	var came atomic.Int64
	var running sync.WaitGroup
	over := make(chan struct{})
	for _, visit := range ways {
		running.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if err := visit(); err != nil {
					t.Errorf("visit %d: %v", came.Load(), err)
					return
				}
				came.Add(1)
			}
		})
	}
	return func() int64 {
		close(over)
		running.Wait()
		return came.Load()
	}
}

// patience is how long a client waits: longer than a process is away.
const patience = 20 * time.Second

// visitTCP opens a connection, is welcomed and answered, and ends it.
func visitTCP() error {
	c, err := welcomed()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := works(c); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("at the end: %d bytes, %w", n, err)
	}
	return nil
}

// welcomed opens a connection that has been served.
func welcomed() (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp4", at(tcpPort), patience)
	if err != nil {
		return nil, err
	}
	err = c.SetDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// visitHTTP returns what asks for a page, over connections that stay or not.
func visitHTTP(t *testing.T, stay bool) func() error { return visitSite(t, at(httpPort), stay) }

// visitSite is visitHTTP for any address.
func visitSite(t *testing.T, addr string, stay bool) func() error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: !stay}, Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	return func() error {
		// Not GET, which a client sends again when its connection has been closed.
		res, err := client.Post("http://"+addr+"/", "text/plain", nil)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 {
			return fmt.Errorf("status %d, %w", res.StatusCode, err)
		}
		return nil
	}
}

// visitUDP returns what sends a datagram of a flow, and is answered by the backend that
// the flow has had at first.
func visitUDP(t *testing.T) func() error {
	c, err := net.Dial("udp4", at(udpPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	first, count := byte(0), 0
	return func() error {
		count++
		sent := fmt.Sprint(count)
		if _, err := c.Write([]byte(sent)); err != nil {
			return err
		}
		var b [100]byte
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		n, err := c.Read(b[:])
		if err != nil {
			return err
		}
		first = cmp.Or(first, b[0])
		if b[0] != first || string(b[1:n]) != sent {
			return fmt.Errorf("backend %c answers %q, want %c and %q", b[0], b[1:n], first, sent)
		}
		return nil
	}
}
