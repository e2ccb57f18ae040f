package origin

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"fairlead/testenv/leak"
	"fairlead/userspace/model"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

func addr(text string) netip.AddrPort {
	if text == "" {
		return netip.AddrPort{}
	}
	return netip.MustParseAddrPort(text)
}

func TestBytesOfHeadersThatAreWritten(t *testing.T) {
	for _, row := range []struct {
		name           string
		version        model.ProxyVersion
		client, server string
		want           string
	}{
		{"text of IPv4", model.ProxyV1, "192.0.2.1:1025", "203.0.113.10:80", "PROXY TCP4 192.0.2.1 203.0.113.10 1025 80\r\n"},
		{"text of IPv6", model.ProxyV1, "[2001:db8::1]:1025", "[2001:db8::10]:443", "PROXY TCP6 2001:db8::1 2001:db8::10 1025 443\r\n"},
		{"binary of IPv4", model.ProxyV2, "192.0.2.1:1025", "203.0.113.10:80",
			signature + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xcb\x00\x71\x0a\x04\x01\x00\x50"},
		{"binary of IPv6", model.ProxyV2, "[2001:db8::1]:1025", "[2001:db8::10]:443",
			signature + "\x21\x21\x00\x24\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x10\x04\x01\x01\xbb"},
		{"binary of both", model.ProxyV2, "192.0.2.1:1025", "[2001:db8::10]:443",
			signature + "\x21\x21\x00\x24" + strings.Repeat("\x00", 10) + "\xff\xff\xc0\x00\x02\x01\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x10\x04\x01\x01\xbb"},
		{"text of nobody", model.ProxyV1, "", "", "PROXY UNKNOWN\r\n"},
		{"binary of nobody", model.ProxyV2, "", "", signature + "\x20\x00\x00\x00"},
	} {
		if got := string(Header(row.version, addr(row.client), addr(row.server))); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

// pipe returns both ends of a connection over loopback.
func pipe(t *testing.T) (here, there net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	there, err = net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { there.Close() })
	here, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close() })
	return here, there
}

const patience = 20 * time.Second

func TestHeadersThatAreRead(t *testing.T) {
	const text = "PROXY TCP4 192.0.2.1 203.0.113.10 1025 80\r\n"
	for _, row := range []struct {
		name, sent     string
		client, server string
		good           bool
	}{
		{"text of IPv4", text, "192.0.2.1:1025", "203.0.113.10:80", true},
		{"text of IPv6", "PROXY TCP6 2001:db8::1 2001:db8::10 1025 443\r\n", "[2001:db8::1]:1025", "[2001:db8::10]:443", true},
		{"text of nobody", "PROXY UNKNOWN\r\n", "", "", true},
		{"text of nobody, with words", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "", "", true},
		{"binary of IPv4", signature + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xcb\x00\x71\x0a\x04\x01\x00\x50", "192.0.2.1:1025", "203.0.113.10:80", true},
		{"binary with more than addresses", signature + "\x21\x11\x00\x10\xc0\x00\x02\x01\xcb\x00\x71\x0a\x04\x01\x00\x50\x04\x00\x01x", "192.0.2.1:1025", "203.0.113.10:80", true},
		{"binary of the peer itself", signature + "\x20\x00\x00\x00", "", "", true},
		{"binary of IPv4 as IPv6", string(Header(model.ProxyV2, addr("192.0.2.1:1025"), addr("[2001:db8::10]:443"))), "192.0.2.1:1025", "[2001:db8::10]:443", true},
		{"another protocol", "GET / HTTP/1.1\r\n\r\n", "", "", false},
		{"text without an end", "PROXY TCP4 192.0.2.1 203.0.113.10 1025 80 " + strings.Repeat("x", 100), "", "", false},
		{"text with an address that is none", "PROXY TCP4 192.0.2.256 203.0.113.10 1025 80\r\n", "", "", false},
		{"text with a port that is none", "PROXY TCP4 192.0.2.1 203.0.113.10 65536 80\r\n", "", "", false},
		{"binary of another version", signature + "\x31\x11\x00\x0c\xc0\x00\x02\x01\xcb\x00\x71\x0a\x04\x01\x00\x50", "", "", false},
		{"binary that is too long", signature + "\x21\x11\x10\x01" + strings.Repeat("x", 4097), "", "", false},
		{"binary that is too short", signature + "\x21\x11\x00\x04\xc0\x00\x02\x01", "", "", false},
	} {
		here, there := pipe(t)
		if _, err := io.WriteString(there, row.sent+"rest"); err != nil {
			t.Fatal(err)
		}
		client, server, err := Read(here, patience)
		if (err == nil) != row.good || client != addr(row.client) || server != addr(row.server) {
			t.Errorf("%s: %v, %v, %v", row.name, client, server, err)
		}
		if !row.good {
			continue
		}
		rest := make([]byte, 4)
		if _, err := io.ReadFull(here, rest); err != nil || string(rest) != "rest" {
			t.Errorf("%s: %q is left, %v", row.name, rest, err)
		}
	}
}

func TestAHeaderMustComeInTime(t *testing.T) {
	for _, begin := range []string{"", "PROXY TCP4 ", signature} {
		here, there := pipe(t)
		if _, err := io.WriteString(there, begin); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Read(here, 20*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %q: error %v, want that it takes too long", begin, err)
		}
	}
}
