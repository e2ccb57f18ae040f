package httpproxy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// forwardingOf returns the headers of a head that tell of clients, in order.
func forwardingOf(head string) (lines []string) {
	for line := range strings.SplitSeq(head, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		if forwarding[strings.ReplaceAll(strings.ToLower(name), "_", "-")] {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

func TestBackendsAreToldOfTheClient(t *testing.T) {
	const lies = "Forwarded: for=192.0.2.9\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: bad\r\nX-Forwarded-Proto: https\r\n" +
		"X-Real-IP: 192.0.2.2\r\nX-Forwarded-Port: 1\r\nX_Forwarded_For: 192.0.2.3\r\nx-forwarded_proto: https\r\n"
	own := []string{`Forwarded: for=127.0.0.1;host="example.com";proto=http`, "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: example.com", "X-Forwarded-Proto: http"}
	for _, row := range []struct {
		name, headers string
		trusted       bool
		want          []string
	}{
		{"nothing said", "", false, own},
		{"nothing said by a trusted peer", "", true, own},
		{"a client that lies", lies, false, own},
		{"a client that has them stripped", "Connection: X-Forwarded-For, X-Forwarded-Host\r\n", false, own},
		{"a trusted peer", lies, true, []string{
			`Forwarded: for=192.0.2.9, for=127.0.0.1;host="example.com";proto=http`, "X-Forwarded-For: 192.0.2.1, 127.0.0.1",
			"X-Forwarded-Host: bad", "X-Forwarded-Port: 1", "X-Forwarded-Proto: https", "X-Real-Ip: 192.0.2.2",
		}},
		{"a trusted peer with several lines", "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2, 192.0.2.3\r\n", true, []string{
			"Forwarded: for=192.0.2.1, for=192.0.2.2, for=192.0.2.3, " + own[0][len("Forwarded: "):],
			"X-Forwarded-For: 192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1", own[2], own[3],
		}},
		{"a trusted peer without Forwarded", "X-Forwarded-For: 2001:db8::1, nonsense\r\nX-Forwarded-Host: shop.example\r\nX-Forwarded-Proto: https\r\n", true, []string{
			`Forwarded: for="[2001:db8::1]";host="shop.example";proto=https, for=unknown, for=127.0.0.1;host="example.com";proto=http`,
			"X-Forwarded-For: 2001:db8::1, nonsense, 127.0.0.1", "X-Forwarded-Host: shop.example", "X-Forwarded-Proto: https",
		}},
		{"what would be more than an element", "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: a\"b, c\r\nX-Forwarded-Proto: https, http\r\n", true, []string{
			"Forwarded: for=192.0.2.1, " + own[0][len("Forwarded: "):],
			"X-Forwarded-For: 192.0.2.1, 127.0.0.1", `X-Forwarded-Host: a"b, c`, "X-Forwarded-Proto: https, http",
		}},
		{"a trusted peer that does not say for whom", "X-Forwarded-Proto: https\r\n", true, []string{own[0], own[1], own[2], "X-Forwarded-Proto: https"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := take(t, say("ok"))
			h := everything(usual)
			if row.trusted {
				h.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			}
			f := one(t, poolOf(b.addr()))
			f.route(h)
			if status, _ := f.get("/", row.headers); status != 200 {
				t.Fatalf("status %d", status)
			}
			if got := forwardingOf(b.seen()[0]); !slices.Equal(got, row.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(row.want, "\n"))
			}
		})
	}
}

func TestAddressesInForwarded(t *testing.T) {
	if got := node(netip.MustParseAddr("2001:db8::1")); got != `"[2001:db8::1]"` {
		t.Errorf("IPv6 is %s", got)
	}
	if got := quoted(`a"b\`); got != `"a\"b\\"` {
		t.Errorf("quoted is %s", got)
	}
}

func TestTheClientIsTheLastOneThatIsNotTrusted(t *testing.T) {
	trusts := func(a netip.Addr) bool { return a.As4()[0] == 10 }
	for list, want := range map[string]string{
		"":                              "10.0.0.9",
		"192.0.2.1":                     "192.0.2.1",
		"192.0.2.1, 10.0.0.1":           "192.0.2.1",
		"192.0.2.1, 192.0.2.2,10.0.0.1": "192.0.2.2",
		"10.0.0.2, 10.0.0.1":            "10.0.0.2",
		"192.0.2.1, nonsense, 10.0.0.1": "10.0.0.1",
		"::ffff:192.0.2.1":              "192.0.2.1",
	} {
		h := map[string][]string{"X-Forwarded-For": {list}}
		if got := origin(h, netip.MustParseAddr("10.0.0.9"), trusts); got.String() != want {
			t.Errorf("%q: %s, want %s", list, got, want)
		}
	}
}
