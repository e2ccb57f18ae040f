package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/leak"
	"fairlead/testenv/stage"
	"fairlead/userspace/host"
	"fairlead/userspace/view"
)

var vip = netip.MustParseAddr("203.0.113.10")

// A bench is a rig whose balancer runs agents, one at a time.
type bench struct {
	*testenv.Rig
	t    *testing.T
	opts Options
	cmd  *exec.Cmd
	log  *stage.Output
}

func newBench(t *testing.T, backends int) *bench {
	return newBenchOf(t, testenv.RigOptions{Backends: backends})
}

func newBenchOf(t *testing.T, o testenv.RigOptions) *bench {
	b := &bench{Rig: testenv.NewRig(t, o), t: t}
	dir := t.TempDir()
	b.opts = Options{
		Config: filepath.Join(dir, "fairlead.yaml"), RunDir: filepath.Join(dir, "run"),
		PinDir: filepath.Join(testenv.BPFFS(t), "fairlead"), Handover: true,
	}
	t.Cleanup(func() {
		if t.Failed() && b.log != nil {
			t.Logf("the agent's log:\n%s", b.log)
		}
		leak.Note(t, b.opts.PinDir)
		b.Balancer.Do(t, func() error {
			err := loader.Detach(context.Background(), b.opts.PinDir, nil)
			if errors.Is(err, loader.ErrNotAttached) {
				return nil
			}
			return err
		})
	})
	return b
}

// interfaces returns the configuration's list of all interfaces.
func (b *bench) interfaces() string {
	return "interfaces: [" + strings.Join(append(append([]string{}, b.ClientLinks...), b.BackendLinks...), ", ") + "]\n"
}

// service returns one service of the configuration, over all backends, whose
// checks are quick.
func (b *bench) service(name, protocol string, port int) string {
	var backends []string
	for _, a := range b.BackendAddrs {
		backends = append(backends, fmt.Sprintf("{address: '%s:8080'}", a))
	}
	return fmt.Sprintf("  - {name: %s, listen: '%s:%d', protocol: %s, backends: [%s], health: {type: tcp, interval: 200ms, timeout: 200ms, rise: 1, fall: 2}}\n",
		name, vip, port, protocol, strings.Join(backends, ", "))
}

func (b *bench) configure(parts ...string) {
	b.t.Helper()
	if err := os.WriteFile(b.opts.Config, []byte(strings.Join(parts, "")), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// start starts an agent and waits until it is ready.
func (b *bench) start() {
	b.t.Helper()
	b.launch()
	b.logged("msg=ready")
}

func (b *bench) launch() {
	b.t.Helper()
	o, err := json.Marshal(b.opts)
	if err != nil {
		b.t.Fatal(err)
	}
	b.cmd, b.log = exec.Command("/proc/self/exe"), &stage.Output{}
	b.cmd.Env = append(os.Environ(), childOptions+"="+string(o))
	b.cmd.Stderr = b.log
	b.Balancer.Start(b.t, b.cmd)
}

// logged waits until the agent's log has the words.
func (b *bench) logged(words string) {
	b.t.Helper()
	stage.Await(b.t, "log of "+words, func() error {
		if strings.Contains(b.log.String(), words) {
			return nil
		}
		return errors.New("not yet")
	})
}

func (b *bench) signal(s syscall.Signal) {
	b.t.Helper()
	if err := b.cmd.Process.Signal(s); err != nil {
		b.t.Fatal(err)
	}
}

// stop ends the agent in good order.
func (b *bench) stop() {
	b.t.Helper()
	b.signal(syscall.SIGTERM)
	if err := b.cmd.Wait(); err != nil {
		b.t.Errorf("agent: %v", err)
	}
	if _, err := view.Read(b.opts.RunDir); !errors.Is(err, os.ErrNotExist) {
		b.t.Errorf("status of an agent that has ended: %v", err)
	}
}

// kill ends the agent as nothing can prevent.
func (b *bench) kill() {
	b.t.Helper()
	b.signal(syscall.SIGKILL)
	_ = b.cmd.Wait() // says that it was killed
}

// seen waits until the agent's view is as wanted.
func (b *bench) seen(what string, want func(v view.View) bool) view.View {
	b.t.Helper()
	var v view.View
	stage.Await(b.t, what, func() (err error) {
		if v, err = view.Read(b.opts.RunDir); err != nil {
			return err
		}
		if !want(v) {
			return fmt.Errorf("view: %+v", v)
		}
		return nil
	})
	return v
}

// onRung returns whether every service of a view is on a rung.
func onRung(rung view.Rung) func(view.View) bool {
	return func(v view.View) bool {
		for _, s := range v.Services {
			if s.Rung != rung {
				return false
			}
		}
		return len(v.Services) > 0
	}
}

// up returns whether just those backends of the first service are up, known so.
func up(want ...bool) func(view.View) bool {
	return func(v view.View) bool {
		for i, up := range want {
			if s := v.Services[0].Backends[i]; s.Up != up || !s.Known {
				return false
			}
		}
		return true
	}
}

// greet serves one backend: each connection gets its number, and whatever it
// sends back.
func (b *bench) greet(backend int) net.Listener {
	b.t.Helper()
	l := b.Backends[backend].Listen(b.t, "tcp", ":8080")
	serve(b.t, l, func(c net.Conn) {
		_, _ = c.Write([]byte{byte('0' + backend)})
		_, _ = io.Copy(c, c)
	})
	return l
}

func (b *bench) greetAll() (all []net.Listener) {
	b.t.Helper()
	for i := range b.Backends {
		all = append(all, b.greet(i))
	}
	return all
}

// echoUDP serves one backend: each datagram is answered with itself and whom it
// came from.
func (b *bench) echoUDP(backend int) {
	b.t.Helper()
	server := b.Backends[backend].ListenPacket(b.t, "udp", ":8080")
	go func() {
		var buf [100]byte
		for {
			n, from, err := server.ReadFrom(buf[:])
			if err != nil {
				return
			}
			_, _ = server.WriteTo(append(buf[:n], []byte(from.String())...), from)
		}
	}()
}

// askUDP asks until there is an answer, and returns it.
func askUDP(t *testing.T, c net.Conn) (answer string) {
	t.Helper()
	stage.Await(t, "answer", func() error {
		var buf [100]byte
		if _, err := c.Write([]byte("?")); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		n, err := c.Read(buf[:])
		answer = string(buf[:n])
		return err
	})
	return answer
}

// connect opens a connection to a port of the service address and returns the
// backend that it has.
func (b *bench) connect(port int) (net.Conn, int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stage.Patience)
	defer cancel()
	c, err := b.Clients[0].DialContext(ctx, "tcp", netip.AddrPortFrom(vip, uint16(port)).String())
	if err != nil {
		return nil, 0, err
	}
	var first [1]byte
	err = errors.Join(c.SetDeadline(time.Now().Add(stage.Patience)))
	if err == nil {
		_, err = io.ReadFull(c, first[:])
	}
	if err != nil {
		c.Close()
		return nil, 0, err
	}
	return c, int(first[0] - '0'), nil
}

// opened is connect that must work; the test closes the connection.
func (b *bench) opened(port int) (net.Conn, int) {
	b.t.Helper()
	c, backend, err := b.connect(port)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c, backend
}

// works sends a byte there and back.
func works(c net.Conn) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	var got [1]byte
	_, err := io.ReadFull(c, got[:])
	return err
}

// mode returns the instance's switch.
func (b *bench) mode() (m loader.Mode, err error) {
	inst, err := loader.Open(b.opts.PinDir)
	if err != nil {
		return 0, err
	}
	return inst.Control().Mode(), inst.Close()
}

// loseXDP deletes a link by hand and returns once the agent has seen that the proxy
// serves. XDP comes back by itself.
func (b *bench) loseXDP() {
	b.t.Helper()
	b.keepXDPOff()()
}

// keepXDPOff is loseXDP, but XDP comes back only after the function that it returns is
// called: until then client1 does not forward, and nothing can be attached.
func (b *bench) keepXDPOff() (letGo func()) {
	b.t.Helper()
	const forwarding = "net.ipv4.conf.client1.forwarding"
	b.Balancer.Sysctl(b.t, forwarding, "0")
	if err := os.Remove(filepath.Join(b.opts.PinDir, "link-client1")); err != nil {
		b.t.Fatal(err)
	}
	b.seen("the proxy", onRung(view.RungProxy))
	return func() {
		b.t.Helper()
		b.Balancer.Sysctl(b.t, forwarding, "1")
	}
}

// wantLocal checks whether the balancer has the service address.
func (b *bench) wantLocal(want bool) {
	b.t.Helper()
	b.Balancer.Do(b.t, func() error {
		local, err := host.IsLocal(vip)
		if local != want {
			b.t.Errorf("the balancer has the service address: %t, want %t", local, want)
		}
		return err
	})
}

// wantNothing checks that nothing is left of an agent.
func (b *bench) wantNothing() {
	b.t.Helper()
	b.wantLocal(false)
	for _, path := range []string{b.opts.PinDir, filepath.Join(b.opts.RunDir, "status.json"), filepath.Join(b.opts.RunDir, addressesFile)} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			b.t.Errorf("%s is left behind: %v", path, err)
		}
	}
}
