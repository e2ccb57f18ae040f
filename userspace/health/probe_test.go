package health

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead/userspace/model"
)

const (
	long  = 20 * time.Second       // for probes that must not run out of time
	short = 100 * time.Millisecond // for probes that must
)

// run probes with the check's timeout, as a Checker does.
func run(t *testing.T, address string, c model.Check) error {
	t.Helper()
	k := Target{Check: c}
	if address != "" {
		k.Address = netip.MustParseAddrPort(address)
	}
	k = k.normal()
	k.Check.Timeout = c.Timeout // may be longer than the interval here
	ctx, cancel := context.WithTimeout(t.Context(), k.Check.Timeout)
	defer cancel()
	return probe(ctx, k)
}

// expect compares the error of a probe with a part of it, "" for none.
func expect(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("probe: %v, want it to pass", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("probe: %v, want %q", err, want)
	}
}

// serveTCP accepts on a port of its own and hands connections to handle, which
// need not close them.
func serveTCP(t *testing.T, handle func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			handle(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String()
}

// serveUDP answers each datagram with what answer makes of it; nil is silence.
func serveUDP(t *testing.T, answer func([]byte) [][]byte) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 64<<10)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			for _, a := range answer(b[:n]) {
				_, _ = conn.WriteTo(a, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-ended })
	return conn.LocalAddr().String()
}

// closed returns an address on which nobody listens: its socket is bound, so
// that nobody else can take it, and for TCP not listening.
func closed(t *testing.T, kind int) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if kind == syscall.SOCK_DGRAM { // connected elsewhere, it takes nothing from us
		if err := syscall.Connect(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9}); err != nil {
			t.Fatal(err)
		}
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	v4 := sa.(*syscall.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port)).String()
}

func TestProbeTCP(t *testing.T) {
	good := serveTCP(t, func(net.Conn) {})
	port := netip.MustParseAddrPort(good).Port()
	refuses := closed(t, syscall.SOCK_STREAM)
	for _, tt := range []struct {
		name    string
		address string
		check   model.Check
		want    string
	}{
		{"a listener is healthy", good, model.Check{Type: model.CheckTCP, Timeout: long}, ""},
		{"a closed port is refused", refuses, model.Check{Type: model.CheckTCP, Timeout: long}, "refused"},
		{"the check's own port", refuses, model.Check{Type: model.CheckTCP, Port: port, Timeout: long}, ""},
		{"a backend without a port", "127.0.0.1:0", model.Check{Type: model.CheckTCP, Port: port, Timeout: long}, ""},
		{"no port at all", "127.0.0.1:0", model.Check{Type: model.CheckTCP, Timeout: long}, "neither"},
		{"no such type", good, model.Check{Type: "smtp", Timeout: long}, "no check of type"},
		{"none asks nobody", "127.0.0.1:0", model.Check{Timeout: long}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, run(t, tt.address, tt.check), tt.want) })
	}
}

// TestStoppedServer stops a process that listens: a TCP check cannot tell.
func TestStoppedServer(t *testing.T) {
	if os.Getenv("FAIRLEAD_TEST_ADDRESS") != "" {
		serveForever(t)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestStoppedServer$")
	cmd.Env = append(os.Environ(), "FAIRLEAD_TEST_ADDRESS=127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	b := make([]byte, 100)
	n, err := out.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimSpace(string(b[:n]))
	expect(t, run(t, address, model.Check{Type: model.CheckHTTP, Timeout: long}), "")
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("wait for the stop: %v, status %x", err, status)
	}
	expect(t, run(t, address, model.Check{Type: model.CheckTCP, Timeout: long}), "")
	expect(t, run(t, address, model.Check{Type: model.CheckHTTP, Timeout: time.Second}), "not done within 1s")
}

func TestProbeUDP(t *testing.T) {
	echo := serveUDP(t, func(b []byte) [][]byte { return [][]byte{b} })
	silent := serveUDP(t, func([]byte) [][]byte { return nil })
	noisy := serveUDP(t, func([]byte) [][]byte { return [][]byte{[]byte("\x00what\xff"), []byte("late: pong")} })
	refuses := closed(t, syscall.SOCK_DGRAM)
	for _, tt := range []struct {
		name, address, send, expect string
		timeout                     time.Duration
		want                        string
	}{
		{"the expected answer", echo, "ping", "in", long, ""},
		{"any answer when none is expected", echo, "ping", "", long, ""},
		{"an empty datagram when there is nothing to send", echo, "", "", long, ""},
		{"bytes that are no text", echo, "\xff\x00", "\x00", long, ""},
		{"another answer", echo, "ping", "pong", short, "not done within 100ms"},
		{"another answer before the expected one", noisy, "ping", "pong", long, ""},
		{"silence", silent, "ping", "", short, "not done within 100ms"},
		{"a closed port is refused at once", refuses, "ping", "", long, "refused"},
		{"a closed port refuses an empty datagram too", refuses, "", "", long, "refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			expect(t, run(t, tt.address, model.Check{
				Type: model.CheckUDP, Send: tt.send, Expect: tt.expect, Timeout: tt.timeout,
			}), tt.want)
		})
	}
}
