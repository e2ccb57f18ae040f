package daemon

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"fairlead/testenv/testca"
	"fairlead/userspace/sni"
	"fairlead/userspace/view"
)

// greeter opens a backend that ends TLS itself, greets with its name and sends
// back what it gets.
func greeter(t *testing.T, ca *testca.CA, name string) string {
	t.Helper()
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.Pair("a.example", "b.example", "x.b.example", "c.example")}})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, func(c net.Conn) {
		_, _ = io.WriteString(c, name)
		_, _ = io.Copy(c, c)
	})
	return l.Addr().String()
}

// greeted connects to the site for a server and returns who greets.
func greeted(ca *testca.CA, server string) (*tls.Conn, string, error) {
	config := &tls.Config{RootCAs: ca.Pool(), ServerName: server}
	if server == "" {
		config.InsecureSkipVerify = true
	}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", site, config)
	if err != nil {
		return nil, "", err
	}
	var name [1]byte
	err = errors.Join(c.SetDeadline(time.Now().Add(20 * time.Second)))
	if err == nil {
		_, err = io.ReadFull(c, name[:])
	}
	return c, string(name[:]), err
}

func byNames(routes, a, b string) string {
	return fmt.Sprintf("services: [{name: names, listen: '%s', forward: tls, routes: [%s]}]\npools:\n  a: {backends: [{address: '127.0.0.1:1'}, {address: %q}], health: {type: none}}\n  b: {backends: [{address: %q}], health: {type: tcp, interval: 20s, timeout: 20s}}\n",
		site, routes, a, b)
}

func TestNamesLeadToPools(t *testing.T) {
	ca := testca.New(t)
	a, b := greeter(t, ca, "a"), greeter(t, ca, "b")
	some := "{server-name: a.example, pool: a}, {server-name: '*.b.example', pool: b}"
	r := runAgent(t, byNames(some, a, b))
	for server, want := range map[string]string{"a.example": "a", "x.b.example": "b", "b.example": "", "c.example": "", "": ""} {
		c, who, err := greeted(ca, server)
		if who != want || (err == nil) != (want != "") {
			t.Errorf("%q is greeted by %q, %v; want %q", server, who, err, want)
		}
		if c != nil {
			c.Close()
		}
	}
	v := r.await("the view", func(v view.View) bool { return v.Proxy.TCP.Accepted == 5 && len(v.Services[0].Backends) == 3 })
	if s := v.Services[0]; s.Rung != view.RungTLS || !s.Standby || s.Backends[0].Pool != "a" || s.Backends[2].Pool != "b" {
		t.Errorf("%+v", s)
	}
	kept, _, err := greeted(ca, "a.example")
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	r.reload(byNames("{server-name: '*', pool: b}", a, b))
	await(t, "the reload", func() bool {
		c, who, err := greeted(ca, "")
		if err == nil {
			c.Close()
		}
		return err == nil && who == "b"
	})
	if err := works(kept); err != nil {
		t.Error("a connection ended with its route:", err)
	}
	began := time.Now()
	if c, err := net.Dial("tcp", site); err != nil { // who says nothing stands in nobody's way
		t.Error(err)
	} else {
		defer c.Close()
	}
	r.reload("services: []\n")
	r.await("the service is gone", func(v view.View) bool { return len(v.Services) == 0 })
	if took := time.Since(began); took >= sni.Timeout {
		t.Errorf("the service was gone after %s: the agent has waited for who says nothing", took)
	}
	if err := works(kept); err == nil {
		t.Error("a connection goes on without its service")
	}
}
