package health

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"fairlead/userspace/model"
)

func TestKey(t *testing.T) {
	base := Target{
		Address: netip.MustParseAddrPort("10.0.0.1:80"),
		Check:   model.Check{Type: model.CheckHTTP, Headers: []model.Header{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}},
	}
	with := func(change func(*Target)) Target {
		other := base
		change(&other)
		return other
	}
	for _, tt := range []struct {
		name  string
		other Target
		same  bool
	}{
		{"a copy is the same", base, true},
		{"a default that is spelt out is the same", with(func(o *Target) { o.Check.Path, o.Check.Statuses = "/", []model.StatusRange{{Min: 200, Max: 399}} }), true},
		{"an empty command is the same as none", with(func(o *Target) { o.Check.Command = []string{} }), true},
		{"the backend's port as the check's is the same", with(func(o *Target) { o.Check.Port = 80 }), true},
		{"a mapped address is the same", with(func(o *Target) { o.Address = netip.MustParseAddrPort("[::ffff:10.0.0.1]:80") }), true},
		{"another port", with(func(o *Target) { o.Check.Port = 81 }), false},
		{"another address", with(func(o *Target) { o.Address = netip.MustParseAddrPort("10.0.0.2:80") }), false},
		{"another order of headers", with(func(o *Target) {
			o.Check.Headers = []model.Header{{Name: "B", Value: "2"}, {Name: "A", Value: "1"}}
		}), false},
		{"bytes that are no text", with(func(o *Target) { o.Check.Send = "\xff" }), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := base.Key() == tt.other.Key(); got != tt.same {
				t.Errorf("same key: %v, want %v\n%s\n%s", got, tt.same, base.Key(), tt.other.Key())
			}
		})
	}
	if with(func(o *Target) { o.Check.Send = "\xff" }).Key() == with(func(o *Target) { o.Check.Send = "\xfe" }).Key() {
		t.Error("payloads that are no text share a key")
	}
}

// TestCount feeds results to a status: + is a success, - is a failure.
func TestCount(t *testing.T) {
	check := model.Check{Rise: 2, Fall: 3}
	unknown, up, down := Status{Up: true}, Status{Up: true, Known: true}, Status{Known: true}
	for _, tt := range []struct {
		name    string
		from    Status
		results string
		want    string // U is up, d is down, after each result
	}{
		{"the first success alone makes it up", unknown, "+", "U"},
		{"the first failure alone makes it down", unknown, "-", "d"},
		{"it rises after two successes in a row", down, "+-++", "dddU"},
		{"it falls after three failures in a row", up, "--+---", "UUUUUd"},
		{"after the first result both have to count up", unknown, "-+-++", "ddddU"},
		{"an adopted state takes more than one result", down, "++---", "dUUUd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, got := tt.from, ""
			for _, r := range tt.results {
				var err error
				if r == '-' {
					err = errors.New("no")
				}
				s.count(check, time.Now(), err)
				got += map[bool]string{true: "U", false: "d"}[s.Up]
				if !s.Known || (err == nil) != (s.LastError == "") {
					t.Errorf("after %c: known %v, error %q", r, s.Known, s.LastError)
				}
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if s.Successes+s.Failures != uint64(len(tt.results)) {
				t.Errorf("%d successes and %d failures", s.Successes, s.Failures)
			}
		})
	}
}
