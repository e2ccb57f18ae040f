package main

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"fairlead/testenv"
)

func TestFortsServe(t *testing.T) {
	requirePrograms(t, "go")
	fairlead := filepath.Join(t.TempDir(), "fairlead")
	if out, err := exec.Command("go", "build", "-o", fairlead, "fairlead/cmd/fairlead").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, cookies := range map[string]bool{"xdp": false, "cookies": true} {
		t.Run(name, func(t *testing.T) {
			f := newFort(newBench(t), fairlead, cookies)
			for _, greets := range []bool{false, true} {
				const n = 100
				all := f.visits(f.visitor(greets), n, 4, shortOrder)
				if len(all.fails) > 0 || len(all.took) != n || all.cpu <= 0 {
					t.Errorf("server first %t: %d connections in %s: %v", greets, len(all.took), all.cpu, errors.Join(all.fails...))
				}
				if got := all.cookies; cookies != (got > 0) {
					t.Errorf("server first %t: %d connections have begun with a cookie, want some: %t", greets, got, cookies)
				}
			}
			for _, o := range []order{{up: 1 << 20, down: 1}, {down: 1 << 20}} {
				if ns, rate := f.long(o); ns <= 0 || rate <= 0 {
					t.Errorf("%+v took %f ns for a kilobyte, %f MB a second", o, ns, rate)
				}
			}
		})
	}
}

func TestLostPacketsAreMissedByNoSender(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 1})
	client, server := r.Clients[0], r.Backends[0]
	l := server.ListenPacket(t, "udp4", ":9")
	c, err := client.DialContext(t.Context(), "udp4", netip.AddrPortFrom(r.BackendAddrs[0], 9).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, host := range map[string]*testenv.Host{"outwards": client, "inwards": server} {
		stop := lose(t, []*testenv.Host{host}, 50)
		for range 200 {
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		if _, err := c.Write([]byte("end")); err != nil {
			t.Fatal(err)
		}
		if n := arrivedUntilEnd(t, l); n < 50 || n > 150 {
			t.Errorf("%s: %d of 200 packets have arrived, want half", name, n)
		}
	}
}

// arrivedUntilEnd counts the datagrams before the one that says so.
func arrivedUntilEnd(t *testing.T, l net.PacketConn) int {
	t.Helper()
	if err := l.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	for count := 0; ; count++ {
		n, _, err := l.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if string(buf[:n]) == "end" {
			return count
		}
	}
}
