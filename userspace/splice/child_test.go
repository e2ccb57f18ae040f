package splice

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// childEnv makes the test binary a proxy to the backend that it names.
const childEnv = "FAIRLEAD_SPLICE_CHILD"

// fits is how many connections the child has descriptors for.
const fits = 3

// child serves with descriptors for a few connections only. It writes its
// address, then its Stats for every line that it reads, until there are none.
func child() int {
	p := &Proxy{
		Pick: to(netip.MustParseAddrPort(os.Getenv(childEnv))),
		Log:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	l, err := Listen(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
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

func TestWithoutDescriptorsItWaitsAndDoesNotSpin(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+listen(t, echo).String())
	var logs strings.Builder
	cmd.Stderr = &logs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	stats := func() (s Stats) {
		if _, err := io.WriteString(in, "\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := out.ReadBytes('\n'); err != nil || json.Unmarshal(line, &s) != nil {
			t.Fatalf("%q, %v", line, err)
		}
		return s
	}
	useUp(t, netip.MustParseAddrPort(strings.TrimSpace(line)), stats)
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	for _, msg := range []string{"accepting stalled", "accepting again"} {
		// Once for each change: the last connections may go one by one.
		if n := strings.Count(logs.String(), msg); n < 1 || n > fits {
			t.Errorf("%q was logged %d times", msg, n)
		}
	}
	if t.Failed() {
		t.Log(logs.String())
	}
}

// useUp opens more connections than fit; the one too many is served once there
// is room.
func useUp(t *testing.T, addr netip.AddrPort, stats func() Stats) {
	var conns []*net.TCPConn
	for range fits {
		c := dial(t, addr)
		roundTrip(t, c, "fits")
		conns = append(conns, c)
	}
	late := dial(t, addr)
	// The fifth error comes after 5 + 10 + 20 + 40 ms; a loop that spins
	// makes thousands in the time that it takes to see that.
	await(t, "accepting failed often", func() bool { return stats().AcceptErrors >= 5 })
	if s := stats(); s.AcceptErrors > 100 || s.Active != fits {
		t.Errorf("stats %+v", s)
	}
	for _, c := range conns {
		c.Close()
	}
	roundTrip(t, late, "late")
}
