// Package model holds the desired state of a load balancer: services, their
// backends and how to judge their health.
//
// It is plain data: no I/O, no clock, nothing but the standard library. Package
// config makes a State from a file; datapath, health and the proxies read it.
package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A State is everything that a configuration asks for.
type State struct {
	// Interfaces are the names of the network interfaces that XDP attaches to.
	Interfaces []string
	XDP        XDPMode
	// Addresses says who puts service addresses on the host.
	Addresses AddressPolicy
	// OnAgentLoss says what health counts as while no agent runs.
	OnAgentLoss LossPolicy
	// FlowTable is the number of flows of each family that the kernel can hold;
	// each takes two entries. 0 means [DefaultFlowTable].
	FlowTable int
	// ReplyLimit is how many resets and ICMP errors each CPU may send in a
	// second. 0 means [DefaultReplyLimit].
	ReplyLimit int
	Timeouts   Timeouts
	FullNAT    FullNAT
	// Resolver says how names of backends are looked up.
	Resolver Resolver
	// Notify are those who are told of changes.
	Notify []Notify
	// AccessLog is that of all services that a proxy serves.
	AccessLog AccessLog
	// Tracing is that of all HTTP services.
	Tracing Tracing
	// FlowLog is that of all services that the kernel serves.
	FlowLog FlowLog
	// ClientZones are those of the clients of all services.
	ClientZones *ClientZones
	// ACME is nil if no service needs it, Vault if the file has none.
	ACME     *ACME
	Vault    *Vault
	Services []Service
	// Pools are those that routes of HTTP services name, and the own ones of
	// services that list backends instead. No two have the same Name.
	Pools []Pool
	// Registration is nil if backends cannot register themselves.
	Registration *Registration
	// Agent is about the process, not about what it balances.
	Agent Agent `json:"-"`
	// Admin says who may change what is balanced while it is.
	Admin Admin `json:"-"`
}

// An Agent says how the agent's process runs, as far as its flags and environment
// do not. Empty fields say nothing.
type Agent struct {
	LogFile        string // path
	PinDir, RunDir string
	StateDir       string // "off" keeps nothing
	// Metrics is where Prometheus may ask: "address:port", ":port" of all
	// addresses, or "off".
	Metrics string
	// Web is where the page is, in the same way.
	Web string
	// Sandbox says whether the process gives up what it does not need.
	Sandbox Sandbox
}

// Sandbox says whether the agent is in one.
type Sandbox string

// The choices.
const (
	SandboxOn  Sandbox = "on"
	SandboxOff Sandbox = "off"
)

// Defaults of a State.
const (
	DefaultFlowTable  = 131072
	DefaultReplyLimit = 1000
)

// XDPMode says how XDP attaches.
type XDPMode string

// The ways to attach.
const (
	XDPAuto    XDPMode = "auto"    // native where the driver can, else generic
	XDPNative  XDPMode = "native"  // native or nothing
	XDPGeneric XDPMode = "generic" // in the stack, for any device
	XDPOff     XDPMode = "off"     // user-space proxy only
)

// AddressPolicy says who puts service addresses on the host.
type AddressPolicy string

// The address policies.
const (
	AddressesAdd   AddressPolicy = "add"   // add missing ones, remove them on detach
	AddressesLeave AddressPolicy = "leave" // the administrator does
)

// LossPolicy says what health counts as while no agent runs.
type LossPolicy string

// The loss policies.
const (
	LossKeep  LossPolicy = "keep"   // as last seen
	LossAllUp LossPolicy = "all-up" // every backend counts as up
)

// Timeouts say how long a silent flow is remembered, by its state. A zero
// field means the default beside it.
type Timeouts struct {
	TCPNew         time.Duration // SYN sent, not answered; 30s
	TCPEstablished time.Duration // answered; 2h
	TCPFin         time.Duration // one side has closed, or both; 1m
	UDPNew         time.Duration // not answered; 30s
	UDPEstablished time.Duration // answered; 3m
}

// WithDefaults returns t with every zero field set to its default.
func (t Timeouts) WithDefaults() Timeouts {
	for _, f := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&t.TCPNew, 30 * time.Second},
		{&t.TCPEstablished, 2 * time.Hour},
		{&t.TCPFin, time.Minute},
		{&t.UDPNew, 30 * time.Second},
		{&t.UDPEstablished, 3 * time.Minute},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
	}
	return t
}

// FullNAT says what backends of full-NAT services see instead of their clients.
type FullNAT struct {
	// Addresses are those of this host that backends see, each those of its
	// family. None means the one that the host itself would use towards it.
	Addresses []netip.Addr
	// First and Last bound the source ports. 0 means the defaults.
	First, Last uint16
}

// Defaults of a FullNAT.
const (
	DefaultFullNATFirst = 10000
	DefaultFullNATLast  = 29999
)

// WithDefaults returns n with its defaults filled in.
func (n FullNAT) WithDefaults() FullNAT {
	if n.First == 0 {
		n.First, n.Last = DefaultFullNATFirst, DefaultFullNATLast
	}
	return n
}

// Protocol is a transport protocol.
type Protocol string

// The transport protocols.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Number returns the protocol's number in an IP header, 0 if it is unknown.
func (p Protocol) Number() uint8 {
	switch p {
	case TCP:
		return 6
	case UDP:
		return 17
	}
	return 0
}

// Forward says how packets reach a backend.
type Forward string

// The ways to forward.
const (
	ForwardDNAT    Forward = "dnat"     // rewrite the destination, in XDP where it can run
	ForwardFullNAT Forward = "full-nat" // rewrite the source too, to one of this host's
	ForwardProxy   Forward = "proxy"    // user space on purpose
	ForwardHTTP    Forward = "http"     // user space, request by request
	ForwardTLS     Forward = "tls"      // user space, by the name that a TLS client asks for
)

// UserSpace reports whether it is never XDP that forwards.
func (f Forward) UserSpace() bool { return f == ForwardProxy || f == ForwardHTTP || f == ForwardTLS }

// DownPolicy says what becomes of the TCP flows of a backend that goes down.
type DownPolicy string

// The down policies.
const (
	DownReset DownPolicy = "reset" // answered with a reset at their next packet
	DownKeep  DownPolicy = "keep"  // forwarded as before
)

// A Service is a virtual address and the backends that serve it.
//
// No two services of a State share an address, protocol and port.
type Service struct {
	Name string
	// Listen is the virtual address and its first port.
	Listen netip.AddrPort
	// LastPort is the last port of the range; Listen.Port() for a single one.
	LastPort uint16
	Protocol Protocol
	Forward  Forward
	Balance  Balance
	OnDown   DownPolicy
	Clients  Clients
	// SourcePrefix is the length of the prefixes by which [SourceHash] and
	// Affinity take clients together. 0 means their whole addresses.
	SourcePrefix int
	// Affinity is how long clients come back to the same backend after their
	// last new flow, in whole seconds. 0 is not at all.
	Affinity time.Duration
	// SlowStart is how long a backend that is new, or up again, takes to come
	// to its whole share. 0 is at once.
	SlowStart time.Duration
	// Zone is where the balancer is; "" is nowhere. New flows go to backends of
	// the same Zone alone while at least ZoneThreshold percent of these, and one
	// of them, are up. Backups and those without a weight do not count.
	Zone          string
	ZoneThreshold int
	// ClientZones are the State's, so that clients of each of these zones are
	// served as if the balancer were there; nil, too, if no backend has a Zone.
	ClientZones *ClientZones `json:"-"`
	// PanicThreshold is the share, in percent, of the backends with a weight,
	// without backups, of which so many must be up: while fewer are, but some,
	// all of them get new flows, unless those of the Zone serve. 0 is never.
	PanicThreshold int
	// PassiveThreshold is how many failed connections in a second make a backend
	// suspect, so that it is probed at once. 0 is never.
	PassiveThreshold int
	// PassiveResets is how many resets of established connections do.
	PassiveResets int
	// Drain is how long the flows of a backend that is removed may go on. 0
	// ends them at once.
	Drain time.Duration
	// CookieAbove is the rate of SYNs, per second, above which XDP answers them
	// with SYN cookies and leaves who brings one back to the proxy. 0 is never.
	// Only a TCP service with one port, that XDP may forward, may have it.
	CookieAbove int
	// AcceptProxy and SendProxy are of a TCP service; SendProxy of a pool, too.
	AcceptProxy AcceptProxy
	SendProxy   ProxyVersion
	Backends    []Backend
	Health      Check
	// HTTP is of a service of ForwardHTTP only.
	HTTP HTTP
	// Names are of a service of ForwardTLS only, which has no Backends itself.
	Names []NameRoute
}

// Defaults of a Service.
const (
	DefaultPanicThreshold   = 50
	DefaultZoneThreshold    = 50
	DefaultPassiveThreshold = 1
	DefaultPassiveResets    = 10
)

// ListenText returns the address and port, or range of ports, as the
// configuration has it.
func (s *Service) ListenText() string {
	if s.LastPort == s.Listen.Port() {
		return s.Listen.String()
	}
	return fmt.Sprintf("%s-%d", s.Listen, s.LastPort)
}

// Mixed says that packets are translated between IPv6 and IPv4: backends are not
// of the family of Listen. A proxy's backends may be of any.
func (s *Service) Mixed() bool {
	return !s.UserSpace() && slices.ContainsFunc(s.Backends, func(b Backend) bool {
		return b.Address.Addr().Is4() != s.Listen.Addr().Is4()
	})
}

// Key names the service on the wire: what no two services share. Pools, which are
// not on the wire, go by their names.
func (s *Service) Key() Key {
	if !s.Listen.IsValid() {
		return Key{Pool: s.Name}
	}
	return Key{Listen: s.Listen, LastPort: s.LastPort, Protocol: s.Protocol}
}

// A Key is what tells two services of a State apart.
type Key struct {
	Listen   netip.AddrPort
	LastPort uint16
	Protocol Protocol
	Pool     string
}

// A Backend is one server of a service.
type Backend struct {
	// Address is where the server listens. Port 0 means the port that the
	// client asked for; only services with a port range may have that.
	Address netip.AddrPort
	// Name is what the configuration has in place of an IP address. In a State
	// that it was read into Address has no more than a port then; where names
	// are looked up, one such backend gives way to some with addresses.
	Name Name
	// Weight is the backend's share of new flows, 0 (drain) to 1000.
	Weight int
	// Backup says that the backend serves only while no other backend of the
	// service can: none of those is up and has a Weight.
	Backup bool
	// Zone is where the backend is; "" is nowhere.
	Zone string
	// Origin is of backends of pools only.
	Origin Origin
	// Leaving says that the configuration does not have the backend any more: it
	// has a Weight of 0, and stays until its flows have ended.
	Leaving bool
}

// String returns the address, with * for the port that the client asked for.
func (b Backend) String() string {
	if b.Address.Port() == 0 {
		return strings.TrimSuffix(b.Address.String(), "0") + "*"
	}
	return b.Address.String()
}
