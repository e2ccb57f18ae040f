package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestASocketOfAnotherKindIsNotTakenOver although it came by the right name.
func TestASocketOfAnotherKindIsNotTakenOver(t *testing.T) {
	anyPort := netip.AddrPortFrom(loopback, 0)
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(anyPort))
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(anyPort))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: t.TempDir() + "/socket", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	for _, row := range []struct {
		name     string
		of       interface{ File() (*os.File, error) }
		tcp, udp bool
	}{{"TCP", tcp, true, false}, {"UDP", udp, false, true}, {"unix", unix, false, false}} {
		f, err := row.of.File()
		if err != nil {
			t.Fatal(err)
		}
		l, tcpErr := adoptTCP(f)
		c, udpErr := adoptUDP(f)
		f.Close()
		if (tcpErr == nil) != row.tcp || (udpErr == nil) != row.udp {
			t.Errorf("%s: as TCP %v, as UDP %v", row.name, tcpErr, udpErr)
		}
		if row.name == "unix" && !errors.Is(tcpErr, errKind) {
			t.Errorf("%s: as TCP %v, want %v", row.name, tcpErr, errKind)
		}
		if tcpErr == nil {
			l.Close()
		}
		if udpErr == nil {
			c.Close()
		}
	}
}

// TestAllAddressesOfAPortNeedASignal has a service listen on all addresses of the port
// where it had one, and on one again: no successor can, and says why, but the process
// that has the port can.
func TestAllAddressesOfAPortNeedASignal(t *testing.T) {
	s := supervised(t, 2*time.Second)
	all := fmt.Sprint("0.0.0.0:", tcpPort)
	for i, row := range []struct{ config, has, wants string }{
		{strings.Replace(s.good, at(tcpPort), all, 1), at(tcpPort), all}, {s.good, all, at(tcpPort)},
	} {
		main := s.pid()
		s.configure(row.config)
		s.signal(syscall.SIGUSR2)
		s.awaitLog("no successor, this process goes on", i)
		want := fmt.Sprintf("service cannot be served: tcp: the process before this one listens on %s, and cannot leave the port to %s meanwhile; put the change in force by SIGHUP first\n", row.has, row.wants)
		if !strings.Contains(s.logged(), want) || s.pid() != main {
			t.Errorf("process %d is the main one, was %d; logged:\n%swant %s", s.pid(), main, s.logged(), want)
		}
		if err := visitTCP(); err != nil {
			t.Error(err)
		}
		s.signal(syscall.SIGHUP)
		s.awaitLog(`msg="configuration taken"`, i)
		if err := visitTCP(); err != nil {
			t.Error(err)
		}
		s.awaitEnd(s.reload())
	}
}
