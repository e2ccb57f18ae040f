package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

// Each testdata/*.bad.yaml is a configuration with one mistake. Its first
// line is "# " and the error that it must give, without the name of the file.
func TestBadFilesGiveTheErrorOfTheirFirstLine(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no test files:", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(data), "\n")
			want := path + ":" + strings.TrimPrefix(first, "# ")
			state, err := Load(path)
			if err == nil {
				t.Fatalf("no error, want %q", want)
			}
			if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if !errors.Is(err, ErrInvalid) {
				t.Error("the error does not wrap ErrInvalid")
			}
			if diff := cmp.Diff(model.State{}, state); diff != "" {
				t.Errorf("a state comes with the error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryFaultIsReportedInTheOrderOfTheFile(t *testing.T) {
	const text = `xdp: fast
services:
  - name: Web
    listen: 203.0.113.10:0
    backends: [{address: 10.0.0.1:80, weight: -1}, {addresss: 10.0.0.2:80}]
    health: {type: tcp, path: /, interval: 100ms, timeout: 1s}
  - listen: 203.0.113.10:80
    protocol: sctp
    backends: []
`
	want := []string{
		`f:1:6: xdp: "fast" is unknown: use auto, native, generic or off`,
		`f:3:11: services[0].name: "Web" is not a name: use 1 to 63 of a-z, 0-9 and -, a - only inside`,
		`f:4:13: services[0].listen: port 0 is not allowed in "203.0.113.10:0": use a number from 1 to 65535`,
		`f:5:47: services[0].backends[0].weight: "-1" is not a number from 0 to 1000`,
		`f:5:53: services[0].backends[1].addresss: unknown key: did you mean address?`,
		`f:6:25: services[0].health.path: does not belong to a check of type tcp: remove it, or use type http or https`,
		`f:6:34: services[0].health.interval: 100ms is shorter than the timeout of 1s: raise the interval or lower the timeout`,
		`f:7:5: services[1].name: is missing: give one of a-z, 0-9 and -`,
		`f:8:15: services[1].protocol: "sctp" is unknown: use tcp or udp`,
		`f:9:15: services[1].backends: no backends: list at least one, such as - address: 10.0.0.1:8080`,
	}
	_, err := Parse("f", []byte(text))
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	var f Fault
	if !errors.As(err, &f) || f.Line != 1 || f.Column != 6 || f.Field != "xdp" {
		t.Errorf("the first fault is %+v", f)
	}
}

func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func TestAFileThatCannotBeReadIsInvalidToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	_, err := Load(path)
	if !errors.Is(err, ErrInvalid) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want one that wraps ErrInvalid and fs.ErrNotExist", err)
	}
	if want := "read configuration: open " + path + ": no such file or directory"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

// service wraps the lines of one service in a file that is good otherwise.
func serviceFile(lines string) string {
	return "services:\n  - name: web\n    " + strings.ReplaceAll(strings.TrimSpace(lines), "\n", "\n    ") + "\n"
}

// What faults of addresses say.
const (
	fine     = ""
	notIP    = "is not an address and port: write it like 203.0.113.10:80 or [2001:db8::10]:80"
	nat64    = "no backend can see a client of another family"
	mapped   = "is an IPv4 address written as IPv6: write 10.0.0.1"
	zone     = "has a zone (%eth0)"
	oneLink  = "is a link-local address"
	outside  = "is not an address that packets arrive for from outside: use another, or set xdp: off"
	byXDP    = "cannot be reached by XDP: use another address, set forward: proxy for the service, or xdp: off"
	itself   = "is the service itself: use the address of a server"
	noServer = "is no server's address: use the address that the backend has"
)

// An addressRow is what a service listens on, its backend and, if one of them
// is at fault, what the error says.
type addressRow struct{ name, listen, backend, extra, want string }

func checkAddresses(t *testing.T, rows []addressRow) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			text := row.extra + "\n" + serviceFile("listen: "+row.listen+"\nbackends: [{address: "+row.backend+"}]")
			_, err := Parse("f", []byte(text))
			wantFault(t, err, row.want)
		})
	}
}

func TestRulesForAddresses(t *testing.T) {
	checkAddresses(t, []addressRow{
		{"one port", "203.0.113.10:80", "10.0.0.1:80", "", fine},
		{"a range needs no backend port", "203.0.113.10:80-90", "10.0.0.1", "", fine},
		{"a single port needs one", "203.0.113.10:80", "10.0.0.1", "", "has no port: write it like 10.0.0.1:8080"},
		{"a range may map to one port", "203.0.113.10:80-90", "10.0.0.1:80", "", fine},
		{"a range backwards", "203.0.113.10:90-80", "10.0.0.1:80", "", "ends before it begins"},
		{"port too large", "203.0.113.10:65536", "10.0.0.1:80", "", `"65536" is not a port`},
		{"huge port", "203.0.113.10:99999999999999999999", "10.0.0.1:80", "", "is not a port"},
		{"negative port", "203.0.113.10:-80", "10.0.0.1:80", "", "has no port"},
		{"open range", "203.0.113.10:80-", "10.0.0.1:80", "", "has no port"},
		{"no port", "203.0.113.10", "10.0.0.1:80", "", "has no port"},
		{"no address", ":80", "10.0.0.1:80", "", notIP},
		{"no name either", "203.0.113.10:80", "exa mple.com:80", "", notIP},
		{"multicast", "224.0.0.1:80", "10.0.0.1:80", "", "is a multicast address"},
		{"multicast backend", "203.0.113.10:80", "239.1.1.1:80", "", "is a multicast address"},
		{"broadcast", "255.255.255.255:80", "10.0.0.1:80", "", "is the broadcast address"},
		{"reserved", "0.1.2.3:80", "10.0.0.1:80", "", "is in 0.0.0.0/8"},
		{"loopback with XDP", "127.0.0.1:80", "10.0.0.1:80", "", outside},
		{"every address with XDP", "0.0.0.0:80", "10.0.0.1:80", "", outside},
		{"loopback without XDP", "127.0.0.1:80", "127.0.0.1:81", "xdp: off", fine},
		{"every address without XDP", "0.0.0.0:80", "10.0.0.1:80", "xdp: off", fine},
		{"loopback backend with XDP", "203.0.113.10:80", "127.0.0.1:80", "", byXDP},
		{"no server", "203.0.113.10:80", "0.0.0.0:80", "xdp: off", noServer},
		{"itself", "203.0.113.10:80", "203.0.113.10:80", "", itself},
		{"itself, by range", "203.0.113.10:80-90", "203.0.113.10", "", itself},
		{"itself, on every address", "0.0.0.0:80", "127.0.0.1:80", "xdp: off", itself},
		{"another port of its host", "203.0.113.10:80", "203.0.113.10:81", "", fine},
	})
	proxied := serviceFile("listen: 203.0.113.10:80\nforward: proxy\nbackends: [{address: 127.0.0.1:80}]")
	if _, err := Parse("f", []byte(proxied)); err != nil {
		t.Error("the proxy reaches a loopback backend:", err)
	}
}

func TestRulesForIPv6Addresses(t *testing.T) {
	checkAddresses(t, []addressRow{
		{"IPv6", "'[2001:db8::1]:80'", "'[2001:db8:2::1]:80'", "", fine},
		{"an IPv6 range needs no backend port", "'[2001:db8::1]:80-90'", "'[2001:db8:2::1]'", "", fine},
		{"nor brackets then", "'[2001:db8::1]:80-90'", "2001:db8:2::1", "", fine},
		{"a single IPv6 port needs one", "'[2001:db8::1]:80'", "2001:db8:2::1", "", "has no port: write it like [2001:db8:2::1]:8080"},
		{"IPv6 without a port", "'[2001:db8::1]'", "'[2001:db8:2::1]:80'", "", "has no port"},
		{"IPv6 and a port without brackets", "'1:2:3:4:5:6:7:8:80'", "'[2001:db8:2::1]:80'", "", notIP},
		{"half a bracket", "'2001:db8::1]:80'", "'[2001:db8:2::1]:80'", "", notIP},
		{"IPv4 in brackets", "203.0.113.10:80-90", "'[10.0.0.1]'", "", notIP},
		{"IPv4 behind IPv6", "'[2001:db8::1]:80'", "10.0.0.1:80", "", nat64},
		{"IPv6 behind IPv4", "203.0.113.10:80", "'[2001:db8::1]:80'", "", nat64},
		{"IPv6 behind IPv4 without XDP", "203.0.113.10:80", "'[2001:db8::1]:80'", "xdp: off", nat64},
		{"IPv4 in IPv6", "'[::ffff:10.0.0.1]:80'", "'[2001:db8:2::1]:80'", "", mapped},
		{"a backend of IPv4 in IPv6", "203.0.113.10:80", "'[::ffff:10.0.0.1]:80'", "", mapped},
		{"a zone", "'[2001:db8::1%eth0]:80'", "'[2001:db8:2::1]:80'", "", zone},
		{"a link-local address with a zone", "'[2001:db8::1]:80'", "'[fe80::1%eth0]:80'", "", zone},
		{"a link-local address", "'[fe80::1]:80'", "'[2001:db8:2::1]:80'", "", oneLink},
		{"IPv6 multicast", "'[ff02::1]:80'", "'[2001:db8:2::1]:80'", "", "is a multicast address"},
		{"IPv6 loopback with XDP", "'[::1]:80'", "'[2001:db8:2::1]:80'", "", outside},
		{"every IPv6 address with XDP", "'[::]:80'", "'[2001:db8:2::1]:80'", "", outside},
		{"every IPv6 address without XDP", "'[::]:80'", "'[2001:db8:2::1]:80'", "xdp: off", fine},
		{"IPv6 loopback backend with XDP", "'[2001:db8::1]:80'", "'[::1]:80'", "", byXDP},
		{"no IPv6 server", "'[2001:db8::1]:80'", "'[::]:80'", "xdp: off", noServer},
		{"itself, of IPv6", "'[2001:db8::1]:80'", "'[2001:db8:0::1]:80'", "", itself},
	})
}

// wantFault checks that err is one fault that contains want, or none for "".
func wantFault(t *testing.T, err error, want string) {
	t.Helper()
	switch got := lines(err); {
	case want == "" && err != nil:
		t.Errorf("error %v, want none", err)
	case want != "" && (len(got) != 1 || !strings.Contains(got[0], want)):
		t.Errorf("errors %q, want one with %q", got, want)
	}
}

func TestServicesMustNotShareAPort(t *testing.T) {
	for _, row := range []struct{ name, a, b, want string }{
		{"the same twice", "203.0.113.10:80", "203.0.113.10:80", "3"},
		{"another port", "203.0.113.10:80", "203.0.113.10:81", ""},
		{"another address", "203.0.113.10:80", "203.0.113.11:80", ""},
		{"a port in a range", "203.0.113.10:80-90", "203.0.113.10:85", "3"},
		{"a range over a port", "203.0.113.10:85", "203.0.113.10:80-90", "3"},
		{"ranges that touch", "203.0.113.10:80-90", "203.0.113.10:90-99", "3"},
		{"ranges side by side", "203.0.113.10:80-90", "203.0.113.10:91-99", ""},
		{"every address", "0.0.0.0:80", "203.0.113.10:80", "3"},
		{"every address, later", "203.0.113.10:80", "0.0.0.0:80", "3"},
		{"every IPv6 address", "[::]:80", "[2001:db8::1]:80", "3"},
		{"every IPv6 address, later", "[2001:db8::1]:80", "[::]:80", "3"},
		{"every address of the other family", "[::]:80", "203.0.113.10:80", ""},
		{"the same IPv6 address", "[2001:db8::1]:80", "[2001:db8::1]:80-81", "3"},
	} {
		t.Run(row.name, func(t *testing.T) {
			const file = "services:\n" +
				"  - {name: a, backends: [{address: '%s'}],\n     listen: '%s', protocol: %s}\n" +
				"  - {name: b, backends: [{address: '%s'}],\n     listen: '%s', protocol: %s}\nxdp: off\n"
			backend := func(listen string) string {
				if listen[0] == '[' {
					return "[2001:db8:2::1]:1"
				}
				return "10.0.0.1:1"
			}
			format := func(one, other string) []byte {
				return fmt.Appendf(nil, file, backend(row.a), row.a, one, backend(row.b), row.b, other)
			}
			_, err := Parse("f", format("tcp", "tcp"))
			want := row.want
			if want != "" {
				want = "f:5:14: services[1].listen: " + row.b + "/tcp is taken by service \"a\" in line " + want + " already"
			}
			wantFault(t, err, want)
			one, other := "tcp", "udp"
			if slices.Contains([]string{"0.0.0.0:80", "[::]:80"}, row.b) { // which UDP cannot have
				one, other = other, one
			}
			if _, err := Parse("f", format(one, other)); err != nil {
				t.Error("TCP and UDP share no ports:", err)
			}
		})
	}
}
