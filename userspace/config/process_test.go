package config

import (
	"net/netip"
	"testing"

	"fairlead/userspace/model"
)

func TestClashes(t *testing.T) {
	for _, row := range []struct {
		metrics, listen string
		last            uint16
		protocol        model.Protocol
		want            bool
	}{
		{"off", "0.0.0.0:80", 80, model.TCP, false},
		{"", "0.0.0.0:80", 80, model.TCP, false},
		{":80", "127.0.0.1:80", 80, model.TCP, true},
		{":80", "127.0.0.1:80", 80, model.UDP, false},
		{":81", "127.0.0.1:80", 80, model.TCP, false},
		{":85", "[::1]:80", 90, model.TCP, true},
		{"127.0.0.1:80", "0.0.0.0:80", 80, model.TCP, true},
		{"0.0.0.0:80", "10.0.0.1:80", 80, model.TCP, true},
		{"127.0.0.1:80", "127.0.0.1:80", 80, model.TCP, true},
		{"127.0.0.1:80", "127.0.0.2:80", 80, model.TCP, false},
	} {
		s := &model.Service{Listen: netip.MustParseAddrPort(row.listen), LastPort: row.last, Protocol: row.protocol}
		if got := Clashes(row.metrics, s); got != row.want {
			t.Errorf("%s and %s %s-%d: %v", row.metrics, row.protocol, row.listen, row.last, got)
		}
	}
}
