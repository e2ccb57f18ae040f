package testenv

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// greet answers each connection to l with the peer's address.
func greet(t *testing.T, l net.Listener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, c.RemoteAddr().String())
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

// ask returns what the server at address says.
func ask(t *testing.T, h *Host, address string) string {
	t.Helper()
	ctx := within(t)
	c, err := h.DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCableCarriesTCP(t *testing.T) {
	client, server := NewHost(t, "client"), NewHost(t, "server")
	Cable(t, client, "192.0.2.1/24", server, "192.0.2.2/24")
	greet(t, server.Listen(t, "tcp", "192.0.2.2:80"))
	if got := ask(t, client, "192.0.2.2:80"); !strings.HasPrefix(got, "192.0.2.1:") {
		t.Errorf("server saw client %q", got)
	}
}

func TestRigForwardsBetweenClientsAndBackends(t *testing.T) {
	r := NewRig(t, RigOptions{Clients: 2, Backends: 2, Cable: []CableOption{Queues(2), MTU(9000)}})
	for i, b := range r.Backends {
		address := net.JoinHostPort(r.BackendAddrs[i].String(), "8080")
		greet(t, b.Listen(t, "tcp", address))
		for k, c := range r.Clients {
			if got, want := ask(t, c, address), r.ClientAddrs[k].String()+":"; !strings.HasPrefix(got, want) {
				t.Errorf("%s saw client %q, want %s", b.Name, got, want)
			}
		}
	}
}

func TestSysctlHoldsForOneHost(t *testing.T) {
	a, b := NewHost(t, "a"), NewHost(t, "b")
	const key, path = "net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"
	a.Sysctl(t, key, "1")
	b.Sysctl(t, key, "0")
	for h, want := range map[*Host]string{a: "1\n", b: "0\n"} {
		h.Do(t, func() error {
			got, err := os.ReadFile(path)
			if string(got) != want {
				t.Errorf("%s on %s is %q, want %q", key, h.Name, got, want)
			}
			return err
		})
	}
}

func TestCommandRunsInsideTheNamespace(t *testing.T) {
	a, b := NewHost(t, "a"), NewHost(t, "b")
	Cable(t, a, "192.0.2.1/24", b, "192.0.2.2/24")
	out, err := a.CombinedOutput(exec.Command("cat", "/proc/self/net/dev"))
	if err != nil || !strings.Contains(string(out), " b:") {
		t.Errorf("interfaces seen by a command: %v\n%s", err, out)
	}
}

func TestStartedCommandDiesWithTheTest(t *testing.T) {
	cmd := exec.Command("cat")
	t.Run("inner", func(t *testing.T) {
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		NewHost(t, "a").Start(t, cmd)
	})
	if cmd.ProcessState == nil || cmd.ProcessState.Exited() {
		t.Errorf("process state %v, want killed", cmd.ProcessState)
	}
}

func TestInReturnsWhenTheFunctionEndsTheGoroutine(t *testing.T) {
	h := NewHost(t, "a")
	if err := h.In(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error")
	}
}

func TestBPFFSIsEmptyAndGoesAwayWithTheTest(t *testing.T) {
	var dir string
	t.Run("inner", func(t *testing.T) {
		dir = BPFFS(t)
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 0 {
			t.Fatalf("new directory holds %v, %v", entries, err)
		}
		if err := os.Mkdir(dir+"/left", 0o700); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory is still there: %v", err)
	}
}
