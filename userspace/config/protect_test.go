package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead/userspace/model"
)

func TestWhatProtectsHTTPServices(t *testing.T) {
	s, err := Load("testdata/protect.yaml")
	if err != nil {
		t.Fatal(err)
	}
	timeouts := func(body time.Duration) model.HTTPTimeouts {
		limits := defaultTimeouts
		limits.Body = body
		return limits
	}
	pools := []model.Share{{Pool: "main", Weight: 1}}
	want := model.HTTP{
		Bounds: model.Bounds{
			MaxHeader: 16 << 10, MaxURI: 2000, MaxConnections: 50, HeaderTimeout: 5 * time.Second, KeepAlive: 30 * time.Second,
			Rate: model.Rate{Requests: 100, Per: time.Second, Burst: 200},
		},
		Routes: []model.Route{
			{Match: "POST /login", Pools: pools, Timeouts: timeouts(time.Minute), MaxBody: 1 << 20, Rate: model.Rate{Requests: 5, Per: time.Minute, Burst: 3}},
			{
				Match: "/upload/", Pools: pools, Timeouts: timeouts(10 * time.Minute), MaxBody: 2 << 30,
				Access: model.Access{Allow: prefixes("10.0.0.0/8", "2001:db8::/32"), Deny: prefixes("10.0.0.1/32")},
			},
		},
	}
	if diff := cmp.Diff(want, s.Services[0].HTTP, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFaultsOfWhatProtects(t *testing.T) {
	for _, row := range []struct{ line, want string }{
		{"max-header: 1000", `services[0].max-header: "1000" is not from 1KiB to 1MiB`},
		{"max-uri: 2MiB", `services[0].max-uri: "2MiB" is not from 1 to 1MiB`},
		{"max-body: 10MB", `services[0].max-body: "10MB" is not a size: write it like 512, 64KiB, 10MiB or 1GiB`},
		{"max-body: 0", `services[0].max-body: "0" is not from 1 to 1024GiB`},
		{"max-body: 99999999999999", `services[0].max-body: "99999999999999" is not a size: write it like 512, 64KiB, 10MiB or 1GiB`},
		{"max-body: 9999999999GiB", `services[0].max-body: "9999999999GiB" is not from 1 to 1024GiB`},
		{"max-connections: 0", `services[0].max-connections: "0" is not a number from 1 to 1000000`},
		{"rate-limit: {burst: 3}", `services[0].rate-limit.rate: is missing: give the requests that each client may make in a second, such as 100`},
		{"rate-limit: {rate: 3, per: 10ms}", `services[0].rate-limit.per: "10ms" is not from 1s to 24h`},
		{"timeouts: {header: 1ms}", `services[0].timeouts.header: "1ms" is not from 10ms to 24h`},
		{"routes: [{match: /, pool: p, timeouts: {header: 1s}}]", `services[0].routes[0].timeouts.header: unknown key: use body, connect, first-byte, idle or request`},
		{"routes: [{match: /, pool: p, access: {}}]", `services[0].routes[0].access: is empty: list networks under allow or deny, or remove the key`},
		{"routes: [{match: /, pool: p, access: {deny: []}}]", `services[0].routes[0].access.deny: is empty: list at least one network, such as 198.51.100.0/24, or remove the key`},
		{"routes: [{match: /, pool: p, access: {allow: [10.0.0.0/8], deny: [10.0.0.0/8]}}]",
			`services[0].routes[0].access.deny[0]: "10.0.0.0/8" stands in line 5, under allow, already: remove one of the two`},
	} {
		file := "services:\n  - name: web\n    listen: 203.0.113.10:80\n    forward: http\n    " + row.line + "\n"
		if row.line[:6] != "routes" {
			file += "    backends: [{address: 10.0.0.1:8080}]\n"
		} else {
			file += "pools: {p: {backends: [{address: 10.0.0.1:8080}]}}\n"
		}
		_, err := Parse("f", []byte(file))
		if got := lines(err); len(got) != 1 || !strings.HasSuffix(got[0], ": "+row.want) {
			t.Errorf("%s: errors %q, want %q", row.line, got, row.want)
		}
	}
}
