package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func given(from string, texts ...string) (all []Given) {
	for _, text := range texts {
		all = append(all, Given{text, from})
	}
	return all
}

// TestQuickIsWhatAFileWouldSay compares command lines with files.
func TestQuickIsWhatAFileWouldSay(t *testing.T) {
	for _, row := range []struct {
		name  string
		quick Quick
		file  string
	}{
		{"TCP", Quick{Port: Given{"8080", "--port"}, Servers: given("--servers", "10.0.0.1:1", "10.0.0.2:2")}, `
xdp: off
services:
  - {name: quick, listen: "0.0.0.0:8080", forward: proxy, backends: [{address: "10.0.0.1:1"}, {address: "10.0.0.2:2"}]}
`},
		{"HTTP of both families", Quick{
			Port: Given{"80", "--port"}, Backends: given("-b", "http://127.0.0.1:2702", "https://10.0.0.2/x"), Connections: Given{"7", "-n"}, Cache: true, IPv6: true,
		}, `
xdp: off
services:
  - {name: quick, listen: "0.0.0.0:80", forward: http, cache: true, routes: [{match: /, pool: quick}]}
  - {name: quick-ipv6, listen: "[::]:80", forward: http, cache: true, routes: [{match: /, pool: quick}]}
pools:
  quick:
    backends: [{url: "http://127.0.0.1:2702"}, {url: "https://10.0.0.2/x"}]
    health: {type: http, path: /health}
    max-requests: 7
`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := row.quick.State()
			if err != nil {
				t.Fatal(err)
			}
			want, err := Parse("f", []byte(row.file))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestWrongFlagsAreNamed(t *testing.T) {
	port, server := Given{"80", "--port"}, given("--servers", "10.0.0.1:1")
	for _, row := range []struct {
		name  string
		quick Quick
		want  string
	}{
		{"no port", Quick{Port: Given{"web", "PORT"}, Servers: server}, `PORT: "web" is not a port: use a number from 1 to 65535`},
		{"port 0", Quick{Port: Given{"0", "--port"}, Servers: server}, `--port: port 0 is not allowed in "0": use a number from 1 to 65535`},
		{"an address as port", Quick{Port: Given{"1.2.3.4:80", "--port"}, Servers: server}, `--port: "1.2.3.4:80" is not a port: use a number from 1 to 65535`},
		{"no port of a server", Quick{Port: port, Servers: given("SERVERS", "10.0.0.1")}, `SERVERS: "10.0.0.1" has no port: write it like 10.0.0.1:8080; only a service with a range of ports may leave it out`},
		{"a server twice", Quick{Port: port, Servers: given("--servers", "10.0.0.1:1", "10.0.0.1:1"), IPv6: true},
			`--servers: "10.0.0.1:1" is a backend in --servers already: remove one of the two, or raise the weight of one`},
		{"the service itself", Quick{Port: port, Servers: given("--servers", "127.0.0.1:80")}, `--servers: "127.0.0.1:80" is the service itself: use the address of a server`},
		{"no URL", Quick{Port: port, Backends: given("-b", "127.0.0.1:80")}, `-b: "127.0.0.1:80" is not a URL: write it like http://10.0.0.1:8080 or https://10.0.0.1/prefix`},
		{"no certificate", Quick{Port: port, Backends: given("-b", "http://127.0.0.1:81"), Certificate: Given{"/no/cert", "--cacert"}, Key: Given{"/no/key", "--privkey"}, IPv6: true},
			`--cacert and --privkey: read certificate: open /no/cert: no such file or directory`},
		{"no number", Quick{Port: port, Backends: given("-b", "http://127.0.0.1:81"), Connections: Given{"0", "-n"}}, `-n: "0" is not a number from 1 to 1000000`},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := row.quick.State()
			if err == nil || err.Error() != row.want {
				t.Errorf("error %v\nwant  %s", err, row.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Error("more than one line")
			}
		})
	}
}
