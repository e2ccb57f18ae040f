package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/userspace/model"
)

func TestWhoSaysAndIsToldWhomConnectionsAreOf(t *testing.T) {
	const file = `services:
  - name: tcp
    listen: 203.0.113.10:80
    accept-proxy: {from: [10.0.0.0/8, "2001:db8::1"]}
    send-proxy: v2
    backends: [{address: 10.0.0.1:8080}]
  - name: web
    listen: 203.0.113.10:81
    forward: http
    accept-proxy: {from: [10.0.0.0/8], timeout: 500ms}
    send-proxy: v1
    health: {type: tcp, port: 9000}
    backends: [{address: 10.0.0.1:8080}]
`
	s, err := Parse("f", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	tcp, web, pool := &s.Services[0], &s.Services[1], &s.Pools[0]
	if a := tcp.AcceptProxy; !slices.Equal(a.From, prefixes("10.0.0.0/8", "2001:db8::1/128")) || a.Timeout != 3*time.Second {
		t.Errorf("tcp accepts %+v", a)
	}
	if tcp.SendProxy != model.ProxyV2 || tcp.Health.SendProxy != model.ProxyV2 || !tcp.UserSpace() {
		t.Errorf("tcp %+v", tcp)
	}
	if a := web.AcceptProxy; !slices.Equal(a.From, prefixes("10.0.0.0/8")) || a.Timeout != 500*time.Millisecond || web.SendProxy != "" {
		t.Errorf("web %+v", web)
	}
	if pool.SendProxy != model.ProxyV1 || pool.Health.SendProxy != "" || len(pool.AcceptProxy.From) > 0 {
		t.Errorf("pool %+v", pool)
	}
}

func TestFaultsOfPROXYHeaders(t *testing.T) {
	for _, row := range []struct{ lines, want string }{
		{"send-proxy: v3", `services[0].send-proxy: "v3" is unknown: use v1 or v2`},
		{"send-proxy: v1\nprotocol: udp", `services[0].send-proxy: does not belong to a UDP service: remove it`},
		{"send-proxy: v1\nforward: http\nhttp2: true", `services[0].send-proxy: stands beside http2, whose connections several clients share: remove one of the two`},
		{"accept-proxy: {from: [10.0.0.0/8]}\nprotocol: udp", `services[0].accept-proxy: does not belong to a UDP service: remove it`},
		{"accept-proxy: {timeout: 1s}", `services[0].accept-proxy.from: is missing: list the networks of the proxies that send PROXY headers, such as 10.0.0.0/8`},
		{"accept-proxy: {from: []}", `services[0].accept-proxy.from: is empty, so nobody would be asked: list the networks of the proxies, such as 10.0.0.0/8`},
		{"accept-proxy: {from: [10.0.0.1/8]}", `services[0].accept-proxy.from[0]: "10.0.0.1/8" has bits beyond its length: write 10.0.0.0/8 for the network, or 10.0.0.1 for the address`},
		{"accept-proxy: {from: [10.0.0.0/8], timeout: 2h}", `services[0].accept-proxy.timeout: "2h" is not from 10ms to 1h`},
		{"accept-proxy: {from: [10.0.0.0/8]}\nsyn-cookies: {above: 5}", `services[0].syn-cookies: does not belong to a service with accept-proxy, which the proxy serves: remove it`},
	} {
		_, err := Parse("f", []byte(serviceFile("listen: 203.0.113.10:80\nbackends: [{address: 10.0.0.1:8080}]\n"+row.lines)))
		if got := lines(err); len(got) != 1 || !strings.HasSuffix(got[0], ": "+row.want) {
			t.Errorf("%s: errors %q, want %q", row.lines, got, row.want)
		}
	}
}
