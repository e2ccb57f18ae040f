package datapath

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/userspace/model"
)

func TestWhatIsThereAndWantedCountsOnce(t *testing.T) {
	service := func(name, listen string, last uint16, backends ...string) model.Service {
		s := model.Service{Name: name, Listen: netip.MustParseAddrPort(listen), LastPort: last, Protocol: model.TCP}
		for _, b := range backends {
			s.Backends = append(s.Backends, model.Backend{Address: netip.MustParseAddrPort(b), Weight: 1})
		}
		return s
	}
	web := service("web", "203.0.113.1:80", 80, "10.0.0.1:80", "10.0.0.2:80")
	web.Clients.Deny = networks("10.0.0.0/8", "192.0.2.0/24")
	media := service("media", "203.0.113.2:8000", 8099, "10.0.0.1:0")
	state := &model.State{Services: []model.Service{web, media}}
	want := loader.Sizes{Services: 2, Backends: 3, Listeners: 101, VIPs: 4, Slots: 12, Clients: 3, Flows: model.DefaultFlowTable}
	if diff := cmp.Diff(want, Needs(nil, state)); diff != "" {
		t.Errorf("nothing there: -want +got\n%s", diff)
	}

	six := service("web6", "[2001:db8::1]:80", 81, "[2001:db8:2::1]:80")
	six.Clients.Deny = networks("2001:db8:5::/48")
	both := want
	both.Services, both.Backends, both.Slots, both.Flows6 = 3, 4, 16, want.Flows
	both.Listeners6, both.VIPs6, both.Clients6 = 2, 2, 2
	six.Affinity, both.Affinity6 = time.Minute, 65536
	if diff := cmp.Diff(both, Needs(nil, &model.State{Services: []model.Service{web, media, six}})); diff != "" {
		t.Errorf("with IPv6: -want +got\n%s", diff)
	}

	r := empty(8)
	p, err := makePlan(r, &Want{Services: []Service{{Service: web}, {Service: media}}})
	if err != nil {
		t.Fatal(err)
	}
	execute(t, r, p)
	if diff := cmp.Diff(want, Needs(&Writer{rows: r}, state)); diff != "" {
		t.Errorf("the same there: -want +got\n%s", diff)
	}

	other := service("web", "203.0.113.1:80", 80, "10.0.0.2:80", "10.0.0.3:80")
	other.Clients.Allow = networks("10.0.0.0/8", "10.1.0.0/16")
	dns := service("dns", "203.0.113.3:53", 53, "10.0.0.1:53")
	state = &model.State{Services: []model.Service{other, dns}}
	want = loader.Sizes{Services: 3, Backends: 5, Listeners: 102, VIPs: 6, Slots: 12, Clients: 4, Flows: model.DefaultFlowTable}
	if diff := cmp.Diff(want, Needs(&Writer{rows: r}, state)); diff != "" {
		t.Errorf("some there: -want +got\n%s", diff)
	}
}
