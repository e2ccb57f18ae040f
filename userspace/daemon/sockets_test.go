package daemon

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
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
