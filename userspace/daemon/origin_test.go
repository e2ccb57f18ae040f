package daemon

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"fairlead/userspace/view"
)

// sent sends bytes to the site and returns as many as are wanted of what a backend
// sends back.
func sent(t *testing.T, text, want string) string {
	t.Helper()
	c, err := net.Dial("tcp", site)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite() // nobody is to wait for more; it may be reset by now
	got := make([]byte, len(want))
	n, _ := io.ReadFull(c, got)
	return string(got[:n])
}

func TestPROXYHeadersOfTCP(t *testing.T) {
	backend := echo(t).Addr().String()
	service := func(keys string) string {
		return fmt.Sprintf("services: [{name: tcp, listen: '%s', health: {type: none}, backends: [{address: '%s'}]%s}]\n", site, backend, keys)
	}
	r := runAgent(t, service(", accept-proxy: {from: [127.0.0.0/8]}, send-proxy: v1"))
	const header, other = "PROXY TCP4 192.0.2.1 203.0.113.10 1025 80\r\n", "PROXY UNKNOWN\r\nhello" // which another would take the place of
	if got := sent(t, header+"hello", header+"hello"); got != header+"hello" {
		t.Errorf("the backend gets %q", got)
	}
	if got := sent(t, "hello, who does not say", "."); got != "" {
		t.Errorf("without a header there is %q", got)
	}
	if v := r.await("who owes a header counts", func(v view.View) bool { return v.Proxy.TCP.Unannounced == 1 }); v.Services[0].Rung != view.RungProxy {
		t.Errorf("service %+v", v.Services[0])
	}
	r.reload(service(", accept-proxy: {from: [192.0.2.0/24]}"))
	// A connection that comes in the middle of the reload may have its header read by
	// the old configuration, and announced by none.
	r.await("what nobody asks for is passed on", func(view.View) bool { return sent(t, other, other) == other })
}

func TestPROXYHeadersBeforeServerNames(t *testing.T) {
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- tls.Client(theirs, &tls.Config{ServerName: "a.example"}).Handshake() }()
	b := make([]byte, 8192)
	n, err := ours.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	<-ended // nobody answers
	hello := string(b[:n])
	r := runAgent(t, fmt.Sprintf("services: [{name: names, listen: '%s', forward: tls, accept-proxy: {from: [127.0.0.0/8]}, routes: [{server-name: a.example, pool: a}]}]\npools: {a: {send-proxy: v1, health: {type: none}, backends: [{address: '%s'}]}}\n",
		site, echo(t).Addr()))
	const header = "PROXY TCP4 192.0.2.1 203.0.113.10 1025 443\r\n"
	if got := sent(t, header+hello, header+hello); got != header+hello {
		t.Errorf("the backend gets %q, want %q", got, header+hello)
	}
	if got := sent(t, hello, "."); got != "" {
		t.Errorf("without a header there is %q", got)
	}
	r.await("who owes a header counts", func(v view.View) bool { return v.Proxy.TCP.Unannounced == 1 })
}
