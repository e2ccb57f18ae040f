package udpproxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// childEnv makes the test binary a proxy to the backend that it names.
const childEnv = "FAIRLEAD_UDPPROXY_CHILD"

// child serves with descriptors for three flows. It writes its address, and
// its Stats when its input ends.
func child() int {
	p := &Proxy{Pick: to(netip.MustParseAddrPort(os.Getenv(childEnv)))}
	l, err := Listen(context.Background(), loopback)
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
	for _, fd := range ballast[:3] {
		syscall.Close(fd)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Serve(ctx, l) }()
	fmt.Println(l.LocalAddr())
	bufio.NewScanner(os.Stdin).Scan()
	_ = json.NewEncoder(os.Stdout).Encode(p.Stats())
	cancel()
	<-done
	return 0
}

func TestWithoutDescriptorsTheLongestSilentFlowMakesRoom(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+echo(t, loopback, nil).String())
	cmd.Stderr = os.Stderr
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
	addr := netip.MustParseAddrPort(strings.TrimSpace(line))
	for range 10 {
		ask(t, client(t, addr), "x")
	}
	in.Close()
	var s Stats
	if err := json.NewDecoder(out).Decode(&s); err != nil {
		t.Error(err)
	}
	if s.Opened != 10 || s.Evicted != 7 || s.Flows != 3 || s.Dropped != 0 {
		t.Errorf("stats %+v", s)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
