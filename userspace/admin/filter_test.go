package admin

import (
	"net/netip"
	"testing"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/model"
)

func TestWhichFlowsAFilterMeans(t *testing.T) {
	client, backend := netip.MustParseAddrPort("198.51.100.7:40000"), netip.MustParseAddrPort("[2001:db8::2]:8080")
	for _, row := range []struct {
		name   string
		filter *adminpb.FlowFilter
		want   bool
	}{
		{"nothing said", nil, true},
		{"the service", &adminpb.FlowFilter{Service: "web"}, true},
		{"another service", &adminpb.FlowFilter{Service: "we"}, false},
		{"the protocol", &adminpb.FlowFilter{Protocol: "tcp"}, true},
		{"another protocol", &adminpb.FlowFilter{Protocol: "udp"}, false},
		{"the client", &adminpb.FlowFilter{Client: "198.51.100.7"}, true},
		{"the client as IPv6", &adminpb.FlowFilter{Client: "::ffff:198.51.100.7"}, true},
		{"the client and port", &adminpb.FlowFilter{Client: "198.51.100.7:40000"}, true},
		{"another port of the client", &adminpb.FlowFilter{Client: "198.51.100.7:40001"}, false},
		{"its network", &adminpb.FlowFilter{Client: "198.51.0.0/16"}, true},
		{"its network by an address", &adminpb.FlowFilter{Client: "198.51.9.9/16"}, true},
		{"another network", &adminpb.FlowFilter{Client: "198.52.0.0/16"}, false},
		{"the backend", &adminpb.FlowFilter{Backend: "2001:db8::2"}, true},
		{"the backend and port", &adminpb.FlowFilter{Backend: "[2001:db8::2]:8080"}, true},
		{"another backend", &adminpb.FlowFilter{Backend: "[2001:db8::3]:8080"}, false},
		{"client and backend", &adminpb.FlowFilter{Client: "198.51.100.7", Backend: "2001:db8::/32"}, true},
		{"client and another backend", &adminpb.FlowFilter{Client: "198.51.100.7", Backend: "2001:db9::/32"}, false},
	} {
		f, err := newFilter(row.filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Fits("web", model.TCP, client, backend); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
	f, err := newFilter(&adminpb.FlowFilter{Backend: "0.0.0.0/0"})
	if err != nil || f.Fits("web", model.TCP, client, netip.AddrPort{}) {
		t.Errorf("a flow without a backend fits one (%v)", err)
	}
	for path, want := range map[string][2]bool{"": {true, true}, "kernel": {true, false}, "proxy": {false, true}} {
		if f, err := newFilter(&adminpb.FlowFilter{Path: path}); err != nil || f.Kernel != want[0] || f.Proxy != want[1] {
			t.Errorf("path %q: %+v, %v", path, f, err)
		}
	}
}
