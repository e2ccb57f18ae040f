package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

const (
	tcpService = "listen: 203.0.113.10:80\nbackends: [{address: 10.0.0.1:80}]\n"
	udpService = "listen: 203.0.113.10:80\nprotocol: udp\nbackends: [{address: 10.0.0.1:80}]\n"
	ranged     = "listen: 203.0.113.10:80-90\nbackends: [{address: 10.0.0.1}, {address: 10.0.0.2}]\n"
)

func TestChecksGetTheirDefaults(t *testing.T) {
	tcp := model.Check{Type: model.CheckTCP, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
	with := func(edit func(*model.Check)) model.Check {
		c := tcp
		edit(&c)
		return c
	}
	for _, row := range []struct {
		name, service, health string
		want                  model.Check
	}{
		{"none for TCP", tcpService, "", tcp},
		{"none for UDP", udpService, "", model.Check{Type: model.CheckNone}},
		{"none for a range", ranged, "", with(func(c *model.Check) { c.Port = 80 })},
		{"no type for TCP", tcpService, "{fall: 1}", with(func(c *model.Check) { c.Fall = 1 })},
		{"a short interval shortens the timeout", tcpService, "{interval: 100ms}", with(func(c *model.Check) {
			c.Interval, c.Timeout = 100*time.Millisecond, 100*time.Millisecond
		})},
		{"HTTP", tcpService, "{type: http}", with(func(c *model.Check) {
			c.Type, c.Path, c.Statuses = model.CheckHTTP, "/", []model.StatusRange{{Min: 200, Max: 399}}
		})},
		{"HTTPS in full", tcpService, `{type: https, port: 8443, path: "/a?b=c", host: example.com, headers: {X-B: "1", X-A: two},
      status: 204, expect: ok, skip-verify: true, interval: 5s, timeout: 3s, rise: 1, fall: 1}`, model.Check{
			Type: model.CheckHTTPS, Interval: 5 * time.Second, Timeout: 3 * time.Second, Rise: 1, Fall: 1,
			Port: 8443, Path: "/a?b=c", Host: "example.com", Headers: []model.Header{{Name: "X-B", Value: "1"}, {Name: "X-A", Value: "two"}},
			Statuses: []model.StatusRange{{Min: 204, Max: 204}}, Expect: "ok", SkipVerify: true,
		}},
		{"a range of statuses", tcpService, "{type: http, status: 200-404}", with(func(c *model.Check) {
			c.Type, c.Path, c.Statuses = model.CheckHTTP, "/", []model.StatusRange{{Min: 200, Max: 404}}
		})},
		{"several statuses, another method", tcpService, "{type: http, status: [200-299, 404], method: HEAD}", with(func(c *model.Check) {
			c.Type, c.Path, c.Method, c.Statuses = model.CheckHTTP, "/", "HEAD", []model.StatusRange{{Min: 200, Max: 299}, {Min: 404, Max: 404}}
		})},
		{"when it probes", tcpService, "{fast-interval: 500ms, jitter: 1s, initial: last-known}", with(func(c *model.Check) {
			c.FastInterval, c.Jitter, c.Initial = 500*time.Millisecond, time.Second, model.InitialLast
		})},
		{"an agent", tcpService, `{agent: {port: 9000}}`, with(func(c *model.Check) {
			c.Agent = model.AgentCheck{Port: 9000, Interval: 2 * time.Second, Timeout: time.Second}
		})},
		{"an agent in full", tcpService, `{agent: {port: 9000, interval: 3s, timeout: 500ms, send: "web\n"}}`, with(func(c *model.Check) {
			c.Agent = model.AgentCheck{Port: 9000, Interval: 3 * time.Second, Timeout: 500 * time.Millisecond, Send: "web\n"}
		})},
		{"UDP", udpService, `{type: udp, send: "ping\n", expect: pong}`, with(func(c *model.Check) {
			c.Type, c.Send, c.Expect = model.CheckUDP, "ping\n", "pong"
		})},
		{"DNS", udpService, "{type: dns}", with(func(c *model.Check) { c.Type, c.Query = model.CheckDNS, "." })},
		{"gRPC", tcpService, "{type: grpc, service: a.B, host: h}", with(func(c *model.Check) {
			c.Type, c.Service, c.Host = model.CheckGRPC, "a.B", "h"
		})},
		{"exec", tcpService, `{type: exec, command: [/bin/test, "", x]}`, with(func(c *model.Check) {
			c.Type, c.Command = model.CheckExec, []string{"/bin/test", "", "x"}
		})},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := row.service
			if row.health != "" {
				text += "health: " + row.health
			}
			s, err := Parse("f", []byte(serviceFile(text)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, s.Services[0].Health); diff != "" {
				t.Errorf("check (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRulesForChecks(t *testing.T) {
	for _, row := range []struct{ name, service, health, want string }{
		{"UDP needs a type", udpService, "{interval: 2s}", "health.type: is missing: use none, tcp,"},
		{"unknown type", tcpService, "{type: ping, path: /}", `"ping" is unknown: use none, tcp,`},
		{"a check of type none has nothing else", tcpService, "{type: none, interval: 2s}", "health.interval: does not belong to a check of type none"},
		{"send is not for HTTP", tcpService, "{type: http, send: x}", "send: does not belong to a check of type http: remove it, or use type udp"},
		{"timeout over the default interval", tcpService, "{timeout: 3s}", "health.timeout: 3s is longer than the interval, 2s by default"},
		{"timeout over the interval", tcpService, "{interval: 1s, timeout: 3s}", "health.interval: 1s is shorter than the timeout of 3s"},
		{"a number is no time", tcpService, "{interval: 2}", `"2" is not a time: write it like 500ms, 2s or 5m`},
		{"interval too long", tcpService, "{interval: 2h}", `"2h" is not from 10ms to 1h`},
		{"rise of nothing", tcpService, "{rise: 0}", `"0" is not a number from 1 to 100`},
		{"octal", tcpService, "{rise: 010}", `"010" is not a number from 1 to 100`},
		{"port 0", tcpService, "{port: 0}", "port 0 is not allowed"},
		{"path without slash", tcpService, "{type: http, path: health}", `"health" is not a path`},
		{"path with a blank", tcpService, "{type: http, path: /a b}", `"/a b" is not a path`},
		{"host with a blank", tcpService, "{type: http, host: a b}", `"a b" is not a host name`},
		{"bad header name", tcpService, "{type: http, headers: {A B: c}}", `headers."A B": "A B" is not a header name`},
		{"bad header value", tcpService, `{type: http, headers: {A: "c\r\nX: y"}}`, `is not a header value`},
		{"host is no header", tcpService, "{type: http, headers: {Host: c}}", "use host beside headers"},
		{"header twice", tcpService, "{type: http, headers: {A: b, a: c}}", "headers.a: the header stands in line 5 already"},
		{"status backwards", tcpService, "{type: http, status: 399-200}", "is neither a status nor a range"},
		{"status too large", tcpService, "{type: http, status: 600}", "is neither a status nor a range"},
		{"neither true nor false", tcpService, "{type: https, skip-verify: yes}", `"yes" is neither true nor false`},
		{"no domain name", udpService, "{type: dns, query: a..b}", `"a..b" is not a domain name`},
		{"UDP must send", udpService, "{type: udp}", "health.send: is missing"},
		{"exec must run", tcpService, "{type: exec}", "health.command: is missing"},
		{"exec must run something", tcpService, "{type: exec, command: []}", "health.command: is empty"},
		{"a range where some have ports", "listen: 203.0.113.10:80-90\nbackends: [{address: 10.0.0.1}, {address: 10.0.0.2:80}]\n", "{type: tcp}",
			`services[0].backends[0].address: "10.0.0.1" has no port to check while other backends have`},
		{"health is a word", tcpService, "http", `"http" stands where keys with values must stand`},
		{"health is empty", tcpService, "", "nothing stands where keys with values must stand"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := Parse("f", []byte(serviceFile(row.service+"health: "+row.health)))
			wantFault(t, err, row.want)
		})
	}
}
