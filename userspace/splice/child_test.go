package splice

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// childEnv makes the test binary a proxy to the backend that it names.
// starvedEnv leaves it descriptors for a few connections only.
const (
	childEnv   = "FAIRLEAD_SPLICE_CHILD"
	starvedEnv = "FAIRLEAD_SPLICE_STARVED"
)

// fits is how many connections a starved child has descriptors for.
const fits = 3

// child serves. It writes its address, then its Stats for every line that it
// reads, until there are none.
func child() int {
	p := &Proxy{
		Pick: to(netip.MustParseAddrPort(os.Getenv(childEnv))),
		Log:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	l, err := Listen(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err == nil && os.Getenv(starvedEnv) != "" {
		err = starve()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Serve(ctx, l) }()
	fmt.Println(l.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		_ = json.NewEncoder(os.Stdout).Encode(p.Stats())
	}
	cancel()
	<-done
	return 0
}

// starve uses up the descriptors but for those of fits connections.
func starve() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		return err
	}
	var ballast []int
	for {
		fd, err := syscall.Dup(0)
		if err != nil {
			break
		}
		ballast = append(ballast, fd)
	}
	for _, fd := range ballast[:2*fits] {
		syscall.Close(fd)
	}
	return nil
}

// A process is a child that runs.
type process struct {
	addr netip.AddrPort
	logs *strings.Builder // to be read after end
	in   io.WriteCloser
	out  *bufio.Reader
	end  func() error
}

func start(tb testing.TB, backend netip.AddrPort, env ...string) *process {
	tb.Helper()
	p := &process{logs: new(strings.Builder)}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), childEnv+"="+backend.String()), env...)
	cmd.Stderr = p.logs
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		tb.Fatal(err)
	}
	p.in, p.out = in, bufio.NewReader(out)
	p.end = sync.OnceValue(func() error {
		in.Close()
		return cmd.Wait()
	})
	tb.Cleanup(func() { _ = p.end() })
	line, err := p.out.ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	p.addr = netip.MustParseAddrPort(strings.TrimSpace(line))
	return p
}

func (p *process) stats(tb testing.TB) (s Stats) {
	tb.Helper()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		tb.Fatal(err)
	}
	if line, err := p.out.ReadBytes('\n'); err != nil || json.Unmarshal(line, &s) != nil {
		tb.Fatalf("%q, %v", line, err)
	}
	return s
}

// More connections than fit: the one too many is served once there is room.
func TestWithoutDescriptorsItWaitsAndDoesNotSpin(t *testing.T) {
	p := start(t, listen(t, echo), starvedEnv+"=1")
	var conns []*net.TCPConn
	for range fits {
		c := dial(t, p.addr)
		roundTrip(t, c, "fits")
		conns = append(conns, c)
	}
	late := dial(t, p.addr)
	// The fifth error comes after 5 + 10 + 20 + 40 ms; a loop that spins
	// makes thousands in the time that it takes to see that.
	await(t, "accepting failed often", func() bool { return p.stats(t).AcceptErrors >= 5 })
	if s := p.stats(t); s.AcceptErrors > 100 || s.Active != fits {
		t.Errorf("stats %+v", s)
	}
	for _, c := range conns {
		c.Close()
	}
	roundTrip(t, late, "late")
	if err := p.end(); err != nil {
		t.Error(err)
	}
	for _, msg := range []string{"accepting stalled", "accepting again"} {
		// Once for each change: the last connections may go one by one.
		if n := strings.Count(p.logs.String(), msg); n < 1 || n > fits {
			t.Errorf("%q was logged %d times", msg, n)
		}
	}
	if t.Failed() {
		t.Log(p.logs)
	}
}

func TestWithoutPipesBytesGoThroughBuffers(t *testing.T) {
	const size = 8 << 20
	p := start(t, listen(t, echo), starvedEnv+"=1")
	var c *net.TCPConn
	for range fits {
		c = dial(t, p.addr)
		roundTrip(t, c, "fits")
	}
	sent, got := crc32.NewIEEE(), crc32.NewIEEE()
	wrote := make(chan error)
	go func() {
		_, err := io.CopyN(io.MultiWriter(c, sent), &repeat{[]byte("no pipe for this"), 0}, size)
		wrote <- err
	}()
	n, err := io.CopyN(got, c, size)
	if err = errors.Join(err, <-wrote); n != size || err != nil || got.Sum32() != sent.Sum32() {
		t.Errorf("%d bytes, sum %x, want %d, %x: %v", n, got.Sum32(), size, sent.Sum32(), err)
	}
}
