package refmodel

import (
	"net/netip"
	"testing"
)

func TestLongestPrefixDecides(t *testing.T) {
	all, net, host := Prefix{1, netip.IPv4Unspecified(), 0}, Prefix{1, netip.MustParseAddr("198.51.100.0"), 24}, Prefix{1, client, 32}
	for _, test := range []struct {
		name    string
		clients map[Prefix]bool
		want    Verdict
	}{
		{"none", nil, DropDenied},
		{"another service's", map[Prefix]bool{{2, netip.IPv4Unspecified(), 0}: true}, DropDenied},
		{"another network's", map[Prefix]bool{{1, netip.MustParseAddr("198.51.101.0"), 24}: true}, DropDenied},
		{"all", map[Prefix]bool{all: true}, ForwardRedirect},
		{"a network", map[Prefix]bool{all: false, net: true}, ForwardRedirect},
		{"all but a network", map[Prefix]bool{all: true, net: false}, DropDenied},
		{"all of a network but a host", map[Prefix]bool{all: true, net: true, host: false}, DropDenied},
		{"one host", map[Prefix]bool{all: false, net: false, host: true}, ForwardRedirect},
	} {
		m := newModel()
		m.Clients = test.clients
		send(t, m, syn, SYN, ForwardRedirect)
		m.deleteBoth(tcpKey)
		m.Services[1].Flags |= FlagListed
		send(t, m, syn, SYN, test.want)
	}
}

// newLimited allows two flows at once and a flow in half a second.
func newLimited() *Model {
	m := newModel()
	s := &m.Services[1]
	s.Flags |= FlagLimited
	s.LimitMask, s.LimitRate, s.LimitBurst = netip.MustParseAddr("255.255.255.0"), 2, 2
	return m
}

// again sends the SYN as a new flow.
func again(t *testing.T, m *Model, want Verdict) {
	t.Helper()
	send(t, m, syn, SYN, want)
	m.deleteBoth(tcpKey)
}

func TestCredit(t *testing.T) {
	m := newLimited()
	source := Source{1, netip.MustParseAddr("198.51.100.0")}
	left := func(want Credit) {
		t.Helper()
		if c := m.Sources[source]; c != want {
			t.Errorf("credit is %+v, want %+v", c, want)
		}
	}
	again(t, m, ForwardRedirect)
	left(Credit{10000, 250})
	again(t, m, ForwardRedirect)
	left(Credit{10000, 0})
	m.Now += 124
	again(t, m, DropSourceLimit)
	left(Credit{10000, 0})
	m.Now++
	again(t, m, ForwardRedirect)
	left(Credit{10125, 0})
	m.Now -= 100 // a clock that is ahead elsewhere
	again(t, m, DropSourceLimit)
	m.Now += 100 + 1<<31
	again(t, m, ForwardRedirect)
	left(Credit{10125 + 1<<31, 250})
	m.Control.Hz = 251
	again(t, m, DropSourceLimit)
}

func TestListComesBeforeLimit(t *testing.T) {
	m := newLimited()
	m.Services[1].Flags |= FlagListed
	again(t, m, DropDenied)
	if len(m.Sources) != 0 {
		t.Errorf("who is denied has a credit: %v", m.Sources)
	}
}

func TestNetworksOfServices(t *testing.T) {
	m := newLimited()
	m.Services[2] = m.Services[1]
	for range 2 {
		again(t, m, ForwardRedirect)
	}
	m.Listeners[Listener{vip, 80, TCP}] = 2
	again(t, m, AnswerReset) // row 2 has no backend for this, but credit
}
