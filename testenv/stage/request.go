package stage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"fairlead/testenv"
)

// An Answer is what a dummyserver answered.
type Answer struct {
	Status  int
	Message string // who answered
	Client  string // whom it saw
	Body    string
}

// Get asks for a URL with a numeric address, over a connection of its own.
func (s *Stage) Get(client int, url string) (Answer, error) { return GetFrom(s.Clients[client], url) }

// GetFrom is [Stage.Get] for any host.
func GetFrom(h *testenv.Host, url string) (Answer, error) {
	c := http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: h.DialContext},
		Timeout:   Patience,
	}
	r, err := c.Get(url)
	if err != nil {
		return Answer{}, err
	}
	return readAnswer(r)
}

func readAnswer(r *http.Response) (Answer, error) {
	body, err := io.ReadAll(r.Body)
	err = errors.Join(err, r.Body.Close())
	return Answer{r.StatusCode, r.Header.Get("X-Message"), r.Header.Get("X-Client"), string(body)}, err
}

// workers is how many requests [Stage.Spread] has in flight.
const workers = 8

// Spread sends n requests, each over a connection of its own, and returns how
// many each server answered, by message. The error joins those of requests
// that failed.
func (s *Stage) Spread(client int, url string, n int) (map[string]int, error) {
	var (
		mu    sync.Mutex
		count = map[string]int{}
		errs  []error
		wg    sync.WaitGroup
		turns = make(chan struct{}, n)
	)
	for range n {
		turns <- struct{}{}
	}
	close(turns)
	for range workers {
		wg.Go(func() {
			for range turns {
				a, err := s.Get(client, url)
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				} else {
					count[a.Message]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return count, errors.Join(errs...)
}

// A Talk is a TCP connection to a dummyserver that stays open.
type Talk struct {
	net.Conn
	in *bufio.Reader
}

// Dial opens a connection to a numeric address. The test closes it.
func (s *Stage) Dial(client int, addr string) (*Talk, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	c, err := s.Clients[client].DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s.tb.Cleanup(func() { c.Close() })
	return NewTalk(c), nil
}

// NewTalk returns a talk over a connection that the caller closes.
func NewTalk(c net.Conn) *Talk { return &Talk{c, bufio.NewReader(c)} }

// Ask sends a request over the connection and reads the answer.
func (t *Talk) Ask() (Answer, error) {
	if err := t.SetDeadline(time.Now().Add(Patience)); err != nil {
		return Answer{}, err
	}
	if _, err := io.WriteString(t, "GET / HTTP/1.1\r\nHost: stage\r\n\r\n"); err != nil {
		return Answer{}, err
	}
	r, err := http.ReadResponse(t.in, nil)
	if err != nil {
		return Answer{}, err
	}
	return readAnswer(r)
}

// Echo sends a datagram from a port (0: any) of a client to a numeric address,
// and returns who answered and whom it saw.
func (s *Stage) Echo(client int, port uint16, addr, text string) (message string, seen netip.AddrPort, err error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return "", seen, err
	}
	var c *net.UDPConn
	err = s.Clients[client].In(func() (err error) {
		c, err = net.DialUDP("udp", &net.UDPAddr{Port: int(port)}, to)
		return err
	})
	if err != nil {
		return "", seen, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(Patience)); err != nil {
		return "", seen, err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return "", seen, err
	}
	buf := make([]byte, 64<<10)
	n, err := c.Read(buf)
	if err != nil {
		return "", seen, err
	}
	words := strings.SplitN(string(buf[:n]), " ", 3)
	if len(words) != 3 || words[2] != text {
		return "", seen, fmt.Errorf("echo of %q is %q", text, buf[:n])
	}
	seen, err = netip.ParseAddrPort(words[1])
	return words[0], seen, err
}
