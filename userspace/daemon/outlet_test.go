package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fairlead/client"
	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/testenv/testca"
	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/view"
)

// A spoken is an agent whose admin API is spoken over TCP.
type spoken struct {
	*running
	ca            *testca.CA
	cert, key     string // of the agent
	backend       string
	mine, mineKey string // of who calls
	log           *stage.Output
}

func speak(t *testing.T, listen string) *spoken {
	t.Helper()
	s := &spoken{ca: testca.New(t), log: &stage.Output{}}
	s.cert, s.key = s.ca.Issue(testca.Leaf{Names: []string{"localhost"}})
	s.mine, s.mineKey = s.ca.Issue(testca.Leaf{Names: []string{"ops.example"}})
	s.backend, _ = page(t, "one")
	s.running = runAgentWith(t, s.config(listen), func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(io.MultiWriter(s.log, t.Output()), nil))
	})
	return s
}

func (s *spoken) config(listen string) string {
	if listen == "" {
		return oneSite(s.backend)
	}
	return fmt.Sprintf("admin: {listen: %q, cert: %s, key: %s, client-ca: %s, certificates: [ops.example]}\n", listen, s.cert, s.key, s.ca.File) + oneSite(s.backend)
}

func (s *spoken) client(addr string) *client.Client {
	s.t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := client.New("localhost:"+port, client.TLS{Cert: s.mine, Key: s.mineKey, CA: s.ca.File})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// answers waits until the API answers at an address.
func (s *spoken) answers(addr string) {
	s.t.Helper()
	c := s.client(addr)
	stage.Await(s.t, "the API at "+addr, func() error {
		_, err := c.GetStatus(s.t.Context(), &adminpb.GetStatusRequest{})
		return err
	})
}

// silent waits until nobody listens at an address.
func (s *spoken) silent(addr string) {
	s.t.Helper()
	stage.Await(s.t, "silence at "+addr, func() error {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil
		}
		c.Close()
		return fmt.Errorf("%s takes a connection", addr)
	})
}

// TestTheAdminAPIMoves has reloads open it, move it and close it, and refuse what
// cannot be.
func TestTheAdminAPIMoves(t *testing.T) {
	first, second := testenv.FreeAddress(t), testenv.FreeAddress(t)
	s := speak(t, "")
	s.reload(s.config(first))
	s.answers(first)
	s.cert, s.key = s.ca.Issue(testca.Leaf{Names: []string{"localhost"}}) // together with another certificate
	s.reload(s.config(second))
	s.answers(second)
	s.silent(first)
	shown, err := tls.LoadX509KeyPair(s.cert, s.key)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.serial(second); got != shown.Leaf.SerialNumber.String() {
		t.Errorf("certificate %s is shown, want %s", got, shown.Leaf.SerialNumber)
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(second)
	for _, row := range []struct{ listen, want string }{
		{taken.Addr().String(), "serve admin API: listen tcp " + taken.Addr().String() + ": bind: address already in use; choose another address in admin: listen"},
		{":" + port, "serve admin API: listen tcp :" + port + ": bind: address already in use; to listen on the same port at another address, restart the agent"},
	} {
		s.reload(s.config(row.listen))
		s.await(row.want, func(v view.View) bool { return v.ConfigError == row.want })
		s.answers(second)
	}
	s.reload(s.config(""))
	s.silent(second)
	s.await("no fault", func(v view.View) bool { return v.ConfigError == "" })
}

// TestWhoMovesTheAdminAPIIsAnswered: over the connection that ends.
func TestWhoMovesTheAdminAPIIsAnswered(t *testing.T) {
	first, second := testenv.FreeAddress(t), testenv.FreeAddress(t)
	s := speak(t, first)
	s.answers(first)
	made, err := s.client(first).Apply(t.Context(), &adminpb.ApplyRequest{Configuration: "xdp: off\n" + s.config(second)})
	if err != nil || made.GetRevision() != 2 {
		t.Errorf("%v, %v", made, err)
	}
	s.silent(first)
	s.answers(second)
}

// serial returns that of the certificate that the API shows.
func (s *spoken) serial(addr string) string {
	s.t.Helper()
	mine, err := tls.LoadX509KeyPair(s.mine, s.mineKey)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: s.ca.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{mine}})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// TestFilesOfTheAdminAPIAreReadAgain: another certificate is shown without a reload,
// and a bad one is not; whom the authorities are of follows, too.
func TestFilesOfTheAdminAPIAreReadAgain(t *testing.T) {
	addr := testenv.FreeAddress(t)
	s := speak(t, addr)
	before := s.serial(addr)
	cert, key := s.ca.Issue(testca.Leaf{Names: []string{"localhost"}})
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	bad := s.cert + ".bad"
	if err := os.WriteFile(bad, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	move(bad, s.cert)
	stage.Await(t, "the bad file to be looked at", func() error {
		if !strings.Contains(s.log.String(), "certificate of the admin API not taken, the old one stays") {
			return errors.New("nothing is said of it")
		}
		return nil
	})
	if got := s.serial(addr); got != before {
		t.Errorf("with a bad file certificate %s is shown, want %s", got, before)
	}
	move(cert, s.cert)
	move(key, s.key)
	stage.Await(t, "another certificate to be shown", func() error {
		if got := s.serial(addr); got == before {
			return fmt.Errorf("it is still %s", got)
		}
		return nil
	})
	other := testca.New(t)
	s.answers(addr)
	move(other.File, s.ca.File+".other")
	s.mine, s.mineKey = other.Issue(testca.Leaf{Names: []string{"ops.example"}})
	trusted, err := os.ReadFile(s.ca.File)
	if err != nil {
		t.Fatal(err)
	}
	c := s.client(addr) // which goes by the authority of before
	_, err = c.GetStatus(t.Context(), &adminpb.GetStatusRequest{})
	if code := connect.CodeOf(err); code != connect.CodeUnavailable && !errors.Is(err, syscall.EPIPE) { // it may be hung up before it was read why
		t.Errorf("another authority's certificate: %v", err)
	}
	more, err := os.ReadFile(s.ca.File + ".other")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.ca.File+".both", []byte(strings.Join([]string{string(trusted), string(more)}, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	move(s.ca.File+".both", s.ca.File)
	s.answers(addr)
}

// TestWhoIsOutIsSoForOpenConnections has a reload take an authority, or a name, away while
// a stream is open and a connection idle.
func TestWhoIsOutIsSoForOpenConnections(t *testing.T) {
	free := testenv.FreeAddress(t)
	s := speak(t, free)
	s.answers(free)
	good, other := s.config(free), testca.New(t)
	for name, config := range map[string]string{
		"an authority": strings.Replace(good, "client-ca: "+s.ca.File, "client-ca: "+other.File, 1),
		"a name":       strings.Replace(good, "certificates: [ops.example]", "certificates: [other.example]", 1),
	} {
		c := s.client(free)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		events, err := c.Watch(ctx, &adminpb.WatchRequest{})
		if err != nil || !events.Receive() {
			t.Fatal(err, events.Err())
		}
		s.reload(config)
		for events.Receive() { // until it is taken over
		}
		_, err = c.Change(t.Context(), &adminpb.ChangeRequest{})
		for what, err := range map[string]error{"a stream": events.Err(), "a call": err} {
			if connect.CodeOf(err) != connect.CodePermissionDenied {
				t.Errorf("without %s: %s ends with %v", name, what, err)
			}
		}
		events.Close()
		s.reload(good)
		s.answers(free)
	}
}

// TestWhoIsElsewhereReachesNothingNewOfTheHost: over TCP no file is read that is not named
// already; on the socket any is.
func TestWhoIsElsewhereReachesNothingNewOfTheHost(t *testing.T) {
	addr := testenv.FreeAddress(t)
	s := speak(t, addr)
	s.answers(addr)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("sesame: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	far, near := s.client(addr), calls(t, s.opts.RunDir)
	pool := &adminpb.ChangeRequest{Edits: []*adminpb.Edit{{
		Op: "put-pool", Pool: "new", Spec: fmt.Sprintf("{backends: [{address: %q}], health: {type: http, headers: {X-It: 'file:%s'}}}", s.backend, file),
	}}}
	change := func(c *client.Client) error {
		_, err := c.Change(t.Context(), pool)
		return err
	}
	for what, f := range map[string]func() error{
		"change": func() error { return change(far) },
		"plan": func() error {
			_, err := far.Plan(t.Context(), pool)
			return err
		},
		"apply": func() error {
			_, err := far.Apply(t.Context(), &adminpb.ApplyRequest{Configuration: "include: " + file + "\n" + s.config(addr)})
			return err
		},
	} {
		if err := f(); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "over TCP nothing new of the host") || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := change(near); err != nil {
		t.Errorf("on the socket: %v", err)
	}
	if err := change(far); err != nil {
		t.Errorf("what the configuration has: %v", err)
	}
}
