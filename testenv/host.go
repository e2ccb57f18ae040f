package testenv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The main thread must stay in its namespace: it cannot end with a goroutine
// as other threads do, and /proc/self means it.
func init() { runtime.LockOSThread() }

// A Host is a network namespace that lasts as long as the test.
//
// Loopback is up, IPv6 is off unless [Host.EnableIPv6] is called, and
// reverse-path filters are off. Its methods may be called concurrently.
type Host struct {
	Name string
	ns   netns.NsHandle
	ipv6 bool
	// starts runs functions on a thread that lives as long as the host.
	starts chan func()
	// discard is for frame counters.
	discard netip.Prefix
}

// NewHost returns a namespace with loopback up and nothing else. It skips the
// test, or fails it, without root; see [RequireRoot].
func NewHost(tb TB, name string) *Host {
	tb.Helper()
	RequireRoot(tb)
	h := &Host{Name: name, starts: make(chan func())}
	made := make(chan error)
	go h.live(made)
	if err := <-made; err != nil {
		tb.Fatalf("make namespace %s: %v", name, err)
	}
	tb.Cleanup(func() {
		close(h.starts)
		h.ns.Close()
	})
	h.Do(tb, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		h.Sysctl(tb, "net.ipv6.conf.all.disable_ipv6", "1")
		h.Sysctl(tb, "net.ipv6.conf.default.disable_ipv6", "1")
	}
	h.Sysctl(tb, "net.ipv4.conf.all.rp_filter", "0")
	h.Sysctl(tb, "net.ipv4.conf.default.rp_filter", "0")
	return h
}

// EnableIPv6 switches IPv6 on, for cables that come later. The host sends
// nothing by itself that would spoil exact counts: it has no link-local
// addresses, looks for no duplicates and asks for no routers; what multicast
// listener reports there are come at once.
func (h *Host) EnableIPv6(tb TB) {
	tb.Helper()
	h.ipv6 = true
	for _, setting := range [][2]string{
		{"all.disable_ipv6", "0"}, {"default.disable_ipv6", "0"}, {"default.addr_gen_mode", "1"},
		{"default.accept_dad", "0"}, {"default.accept_ra", "0"}, {"default.mldv2_unsolicited_report_interval", "1"},
	} {
		h.Sysctl(tb, "net.ipv6.conf."+setting[0], setting[1])
	}
}

// live makes the namespace and runs what comes through starts in it.
func (h *Host) live(made chan<- error) {
	// Never unlocked: the thread ends with this goroutine.
	runtime.LockOSThread()
	var err error
	h.ns, err = netns.New()
	made <- err
	if err != nil {
		return
	}
	for f := range h.starts {
		f()
	}
}

// In runs f in the namespace and returns its error. Goroutines that f starts
// run outside of it; sockets that f opens stay in it.
func (h *Host) In(f func() error) error { return h.Go(f)() }

// Do is [Host.In] that fails the test if f returns an error.
func (h *Host) Do(tb TB, f func() error) {
	tb.Helper()
	if err := h.In(f); err != nil {
		tb.Fatalf("%s: %v", h.Name, err)
	}
}

// Go starts f in the namespace, on a thread of its own. The function that it
// returns waits for f and returns its error; it must be called once.
func (h *Host) Go(f func() error) (wait func() error) {
	done := make(chan error, 1)
	go func() {
		// Stands when f ends the goroutine, as t.Fatal does.
		err := errors.New("function did not return")
		defer func() { done <- err }()
		// Never unlocked: the thread ends with this goroutine.
		runtime.LockOSThread()
		if err = netns.Set(h.ns); err != nil {
			err = fmt.Errorf("enter namespace %s: %w", h.Name, err)
			return
		}
		err = errors.New("function did not return")
		err = f()
	}()
	return func() error { return <-done }
}

// NetNS returns the inode number that names the namespace in the kernel.
func (h *Host) NetNS() (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(h.ns), &st); err != nil {
		return 0, fmt.Errorf("stat namespace %s: %w", h.Name, err)
	}
	return uint32(st.Ino), nil
}

// Sysctl sets a sysctl of the namespace, for example net.ipv4.ip_forward.
// An interface name with a dot in it is not supported.
func (h *Host) Sysctl(tb TB, key, value string) {
	tb.Helper()
	path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
	h.Do(tb, func() error { return os.WriteFile(path, []byte(value), 0o644) })
}

// Listen opens a listener in the namespace. The test closes it.
func (h *Host) Listen(tb TB, network, address string) net.Listener {
	tb.Helper()
	var l net.Listener
	h.Do(tb, func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), network, address)
		return err
	})
	tb.Cleanup(func() { l.Close() })
	return l
}

// ListenPacket opens a packet socket in the namespace. The test closes it.
func (h *Host) ListenPacket(tb TB, network, address string) net.PacketConn {
	tb.Helper()
	var c net.PacketConn
	h.Do(tb, func() (err error) {
		c, err = net.ListenPacket(network, address)
		return err
	})
	tb.Cleanup(func() { c.Close() })
	return c
}

// DialContext connects from the namespace to a numeric address. It has the
// signature that [net/http.Transport] wants.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var c net.Conn
	err := h.In(func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// PinCPU keeps the calling thread on one CPU. For use in [Host.Do] and
// [Host.Go], whose threads end with the function: what a thread sends into a
// veth is received on the CPU that it runs on.
func PinCPU(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin thread to CPU %d: %w", cpu, err)
	}
	return nil
}

// PinThread keeps the calling goroutine on one CPU, chosen once in a process,
// so that what is counted and limited per CPU is where the last packet was. The
// thread ends with the goroutine.
func PinThread(tb TB) {
	tb.Helper()
	runtime.LockOSThread()
	cpu, err := chosenCPU()
	if err == nil {
		err = PinCPU(cpu)
	}
	if err != nil {
		tb.Fatalf("%v", err)
	}
}

// chosenCPU is one of those that the process may use.
var chosenCPU = sync.OnceValues(func() (int, error) {
	cpus, err := CPUs()
	if err != nil {
		return 0, err
	}
	return cpus[rand.IntN(len(cpus))], nil
})

// CPUs are those that the calling thread may use.
func CPUs() ([]int, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, fmt.Errorf("read the affinity: %w", err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < allowed.Count(); cpu++ {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}
