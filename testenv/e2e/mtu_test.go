package e2e

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// smallMTU is that of the narrow link of a way whose ends have 1500.
const smallMTU = 1300

// The router in front of the client tells the service address what is too big.
// Only the backend that sent it may be told, and must believe it.
func TestDownloadBehindSmallMTU(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		s := f.stage(t, testenv.RigOptions{})
		router := s.Clients[0]
		far, _ := s.Behind(t, router)
		router.SetMTU(t, "far", smallMTU)
		transfers := serveRaw(t, s, f)
		account := s.Account()
		for range s.Backends {
			before := unreachables(s, f)
			client, server, backend := transfers.open(t, far)
			wantWhole(t, server, client)
			if got := pathMTU(t, server); got != smallMTU {
				t.Errorf("backend %d believes in a path MTU of %d, want %d", backend, got, smallMTU)
			}
			for i, n := range unreachables(s, f) {
				if told := n != before[i]; told != (i == backend) {
					t.Errorf("backend %d sent, backend %d got %d errors", backend, i, n-before[i])
				}
			}
		}
		wantAllXDP(t, s, account)
		var got uint64
		for _, n := range unreachables(s, f) {
			got += n
		}
		counter, _ := f.tooBig()
		if sent := s.StackCounter(router, f.icmp, counter); got != sent {
			t.Errorf("the router sent %d errors, the backends got %d", sent, got)
		}
	})
}

// The balancer's own link to the backend is the narrow one.
func TestUploadThroughSmallMTU(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		s := f.stage(t, testenv.RigOptions{})
		for _, link := range s.BackendLinks {
			s.Balancer.SetMTU(t, link, smallMTU)
		}
		transfers := serveRaw(t, s, f)
		account := s.Account()
		for range s.Backends {
			client, server, _ := transfers.open(t, s.Clients[0])
			wantWhole(t, client, server)
			if got := pathMTU(t, client); got != smallMTU {
				t.Errorf("the client believes in a path MTU of %d, want %d", got, smallMTU)
			}
		}
		wantAllXDP(t, s, account)
		_, counter := f.tooBig()
		sent, got := s.Stats().Verdicts["answer_too_big"], s.StackCounter(s.Clients[0], f.icmp, counter)
		if sent == 0 || got != sent {
			t.Errorf("XDP answered too big %d times, the client got %d errors", sent, got)
		}
	})
}

// unreachables returns how many errors each backend's stack has got.
func unreachables(s *stage.Stage, f family) []uint64 {
	_, counter := f.tooBig()
	var n []uint64
	for _, h := range s.Backends {
		n = append(n, s.StackCounter(h, f.icmp, counter))
	}
	return n
}

// A rawService is a TCP service whose servers are this test.
type rawService struct {
	family   family
	accepted chan farEnd
}

type farEnd struct {
	conn    net.Conn
	backend int
}

// serveRaw attaches a service on port 80 that accepts connections on port 9000
// of every backend.
func serveRaw(t *testing.T, s *stage.Stage, f family) rawService {
	t.Helper()
	return serveRawTo(t, s, f, f, "dnat")
}

// serveRawTo is serveRaw with backends of a family, by this way to forward.
func serveRawTo(t *testing.T, s *stage.Stage, f, backends family, forward string) rawService {
	t.Helper()
	const port = 9000
	s.Configure("interfaces: %s\nservices: [{name: raw, listen: '%s', forward: %s, backends: %s, health: {type: none}}]",
		s.Links(), f.at(80), forward, backends.backends(s, port))
	s.Loader("attach").OK(t)
	r := rawService{f, make(chan farEnd, len(s.Backends))}
	for i, h := range s.Backends {
		l := h.Listen(t, "tcp"+backends.suffix, backends.wild(port))
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return // the test closes it
				}
				r.accepted <- farEnd{c, i}
			}
		}()
	}
	return r
}

// open connects through the service, and returns both ends and whose the far
// one is.
func (r rawService) open(t *testing.T, from *testenv.Host) (client, server net.Conn, backend int) {
	t.Helper()
	client, err := from.DialContext(t.Context(), "tcp"+r.family.suffix, r.family.at(80))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	a := <-r.accepted
	t.Cleanup(func() { a.conn.Close() })
	deadline := time.Now().Add(stage.Patience)
	if err := errors.Join(client.SetDeadline(deadline), a.conn.SetDeadline(deadline)); err != nil {
		t.Fatal(err)
	}
	return client, a.conn, a.backend
}

// wantWhole sends 1 MB and asserts that it arrives as it was.
func wantWhole(t *testing.T, from, to net.Conn) {
	t.Helper()
	want := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(want) // never fails
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(want)
		sent <- err
	}()
	got := make([]byte, len(want))
	n, err := io.ReadFull(to, got)
	if err := errors.Join(err, <-sent); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes arrived, the same: %t: %v", n, len(want), bytes.Equal(got, want), err)
	}
}

// pathMTU returns the path MTU that one end of a connection believes in.
func pathMTU(t *testing.T, c net.Conn) int {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	cerr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err := errors.Join(cerr, err); err != nil {
		t.Fatal(err)
	}
	return int(info.Pmtu)
}
