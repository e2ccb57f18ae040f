// Package view is what a running agent tells everybody else: which rung serves
// each service and why, and what it knows of the backends' health.
//
// The agent publishes a [View] as status.json in its run directory, in one
// step, and readers need neither root nor the agent's help. The JSON form is
// stable. The package finds nothing out by itself; the daemon fills the View.
package view

import (
	"fmt"
	"time"

	"fairlead/userspace/model"
)

// A View is everything that an agent publishes.
type View struct {
	// PID is the agent's process, and Process when it began, in clock ticks
	// since boot: together they tell it from a later process of the same
	// number. [Write] sets both.
	PID     int    `json:"pid"`
	Process uint64 `json:"process"`
	// Started is when the agent was ready, Written when this View was made.
	Started time.Time `json:"started"`
	Written time.Time `json:"written"`
	// Config is the path of the configuration in force; ConfigError says why
	// a newer one was refused, "" if none was.
	Config string `json:"config"`
	// Applied says that a configuration that was applied stands in the place of that
	// one. Edits are the changes that lie on top and fit.
	Applied     bool   `json:"applied,omitempty"`
	Edits       int    `json:"edits,omitempty"`
	ConfigError string `json:"config_error"`
	// CertificateError says why files of certificates are not what is used, "" if
	// they are.
	CertificateError string `json:"certificate_error,omitempty"`
	// NameError says which names of backends have no address, and why, "" if all
	// have one.
	NameError string `json:"name_error,omitempty"`
	// PinDir is where the agent's kernel part is pinned, "" if it has none.
	PinDir   string    `json:"pin_dir"`
	XDP      XDP       `json:"xdp"`
	Services []Service `json:"services"`
	// Pools are those that no backend of Services is of: nobody sends to them, or
	// they are empty.
	Pools []Pool `json:"pools,omitempty"`
	// Revision is that of the configuration in force.
	Revision uint64 `json:"revision,omitempty"`
	Proxy    Proxy  `json:"proxy"`
	// Fragments count what the agent holds for the kernel.
	Fragments Fragments `json:"fragments"`
}

// XDP says how the agent uses XDP.
type XDP struct {
	// Mode is the mode asked for. Reason says why XDP does not run, or not as
	// it was asked to; "" if it does.
	Mode       model.XDPMode `json:"mode"`
	Reason     string        `json:"reason"`
	Interfaces []Interface   `json:"interfaces"`
}

// An Interface is one that XDP should run on.
type Interface struct {
	Name string `json:"name"`
	// Mode is native or generic, "" if it is not attached. Reason says why it
	// is not native.
	Mode   string `json:"mode"`
	Reason string `json:"reason"`
}

// A Rung is what serves a service.
type Rung string

// The rungs of the ladder, from the top.
const (
	RungNative  Rung = "xdp-native"
	RungGeneric Rung = "xdp-generic"
	RungProxy   Rung = "proxy"
	RungHTTP    Rung = "proxy (http)" // where the configuration asks for it
	RungTLS     Rung = "proxy (tls)"  // the same
	RungNone    Rung = "none"         // nobody: XDP is switched off, or it is the proxy's, and no agent lives
)

// A Service is one service and who serves it.
type Service struct {
	Name     string         `json:"name"`
	Listen   string         `json:"listen"` // address:port or address:first-last
	Protocol model.Protocol `json:"protocol"`
	// Forward is what the configuration asks for; "" if that is not known.
	Forward model.Forward `json:"forward"`
	// Balance is how backends are chosen; "" if that is not known.
	Balance model.Method `json:"balance,omitempty"`
	// Rung serves the service; Reason says why no higher one does, "" at the
	// top and where the configuration asks for it.
	Rung   Rung   `json:"rung"`
	Reason string `json:"reason"`
	// Standby says that the proxy listens too; StandbyReason why it does not.
	Standby       bool   `json:"standby"`
	StandbyReason string `json:"standby_reason"`
	// Zone is where this host is, "" for nowhere.
	Zone string `json:"zone,omitempty"`
	// Serving says which of Backends get new flows; "" if that is not known.
	Serving model.Serving `json:"serving"`
	// ClientZones are the same for clients of zones, by name.
	ClientZones map[string]model.Serving `json:"client_zones,omitempty"`
	Backends    []Backend                `json:"backends"`
	// Certificates are those that clients are shown, if any.
	Certificates []Certificate `json:"certificates,omitempty"`
	// Proxied is what the agent's proxies have carried for the service's clients;
	// nil if none of them is there for it.
	Proxied *Proxied `json:"proxied,omitempty"`
}

// A Proxied is what the agent's proxies have carried for a service, or to a backend,
// since they have it.
type Proxied struct {
	Connections uint64 `json:"connections"` // or UDP flows; of a backend over HTTP and UDP: 0
	Active      int64  `json:"active"`      // connections now; of a backend: 0
	Requests    uint64 `json:"requests"`    // of HTTP
	// Bytes are those of TCP and UDP services.
	ToBackends uint64 `json:"to_backends_bytes"`
	ToClients  uint64 `json:"to_clients_bytes"`
}

// A Pool is an entry of pools.
type Pool struct {
	Name string `json:"name"`
	// Services are those that send to it.
	Services []string  `json:"services,omitempty"`
	Backends []Backend `json:"backends"`
}

// A Certificate is one that a service shows to its clients.
type Certificate struct {
	File   string   `json:"file"` // acme for one that an authority gives
	Names  []string `json:"names"`
	Issuer string   `json:"issuer"`
	// NotAfter is zero while the authority has not given it yet.
	NotAfter time.Time `json:"not_after,omitzero"`
}

// A Backend is one backend of a service and its health.
type Backend struct {
	// Address is address:port; port * is the client's. While a name has no address, it
	// is name:port, or the name alone.
	Address string `json:"address"`
	// Name is the host, or service of DNS, that Address is one of; "" if the
	// configuration has the address.
	Name   string `json:"name,omitempty"`
	Weight int    `json:"weight"`
	// Share is how much of its weight the backend has by now, in percent: less
	// than 100 while it starts slowly, or where others answer sooner.
	Share int `json:"share_percent"`
	// Backup says that the backend serves only while no other can.
	Backup bool `json:"backup,omitempty"`
	// Pool is which of an HTTP service's pools the backend is of.
	Pool string `json:"pool,omitempty"`
	// Ejected is until when it gets no requests because of those that failed;
	// nil if it does.
	Ejected *time.Time `json:"ejected,omitempty"`
	// Zone is where the backend is, as far as the configuration says.
	Zone string `json:"zone,omitempty"`
	// Serves says that new flows go to the backend.
	Serves bool `json:"serves"`
	// Flows are open now, in the kernel and the proxy together.
	Flows int `json:"flows"`
	// Drains is when a backend that the configuration has no more loses the flows
	// that it still has then; nil for all others.
	Drains *time.Time `json:"drains,omitempty"`
	Up     bool       `json:"up"`
	// Known says that Up comes from a probe.
	Known bool `json:"known"`
	// Since is when Up changed last.
	Since time.Time `json:"since,omitzero"`
	// Suspect says why the backend may not serve any more, although it is up; nil:
	// nothing says so.
	Suspect *Suspicion `json:"suspect,omitempty"`
	// LastError says why the last probe failed, "" if it did not.
	LastError string    `json:"last_error"`
	LastProbe time.Time `json:"last_probe,omitzero"`
	// Last is what was known before the agent started and is not known anew; nil:
	// nothing is.
	Last *Last `json:"last_known,omitempty"`
	// Latency is what the proxies have measured in the past five minutes; nil if
	// that is nothing.
	Latency *Latency `json:"latency,omitempty"`
	// Proxied is what the agent's proxies have carried to the backend; nil if that is
	// nothing.
	Proxied *Proxied `json:"proxied,omitempty"`
}

// A Latency is how long backends took: until the header of an answer over HTTP,
// else until they accepted a connection. Of Count times a half, 95 and 99 of 100
// were no longer than Median, P95 and P99, which are in seconds and within 1.5 %.
type Latency struct {
	Count  uint64  `json:"count"`
	Median float64 `json:"median_seconds"`
	P95    float64 `json:"p95_seconds"`
	P99    float64 `json:"p99_seconds"`
}

// A Last is what an agent before this one saw of a backend.
type Last struct {
	At time.Time `json:"at"` // when it was kept
	// Up is nil if no probe had told, or this agent's have by now.
	Up *bool `json:"up,omitempty"`
	// Since is when Up had changed last; zero if Up is nil.
	Since  time.Time `json:"since,omitzero"`
	Weight int       `json:"weight"`
	Share  int       `json:"share_percent"`
	// Latency is nil if there was none, or this agent has some by now.
	Latency *Latency `json:"latency,omitempty"`
}

// A Suspicion is what clients saw of a backend that no probe has cleared since.
type Suspicion struct {
	Since time.Time `json:"since"`
	// Unanswered are SYNs that clients sent again, and dials of the proxy that timed
	// out, Refused those that the backend answered with a reset, Resets are those
	// of established connections; since then.
	Unanswered uint64 `json:"unanswered"`
	Refused    uint64 `json:"refused"`
	Resets     uint64 `json:"resets"`
}

// String returns what it is made of, such as "3 unanswered, 2 refused, 1 reset".
func (x *Suspicion) String() string {
	return fmt.Sprintf("%d unanswered, %d refused, %d reset", x.Unanswered, x.Refused, x.Resets)
}

// Proxy counts what user space forwarded since the agent started.
type Proxy struct {
	TCP  TCP  `json:"tcp"`
	UDP  UDP  `json:"udp"`
	HTTP HTTP `json:"http"`
	// RangeSockets are open now for ranges of ports, beyond one for each
	// service. There may be MaxRangeSockets.
	RangeSockets    int `json:"range_sockets"`
	MaxRangeSockets int `json:"max_range_sockets"`
}

// TCP counts connections.
type TCP struct {
	Accepted     uint64 `json:"accepted"`
	Active       int64  `json:"active"` // now
	ToBackends   uint64 `json:"to_backends_bytes"`
	ToClients    uint64 `json:"to_clients_bytes"`
	Denied       uint64 `json:"denied"`       // by the lists of clients
	SourceLimit  uint64 `json:"source_limit"` // more than their network may open
	Unannounced  uint64 `json:"unannounced"`  // without the PROXY header that they owe
	NoBackend    uint64 `json:"no_backend"`
	Retries      uint64 `json:"retries"`
	Resets       uint64 `json:"resets"`
	Cut          uint64 `json:"cut"`
	AcceptErrors uint64 `json:"accept_errors"`
	DialErrors   uint64 `json:"dial_errors"`
}

// HTTP counts connections and requests.
type HTTP struct {
	Accepted    uint64  `json:"accepted"`
	Active      int64   `json:"active"` // connections now
	Denied      uint64  `json:"denied"` // by the lists of clients
	SourceLimit uint64  `json:"source_limit"`
	Requests    uint64  `json:"requests"`
	Running     int64   `json:"running"` // requests now
	Answers     Answers `json:"answers"`
	// Codes are the same by status, 101 too; 0 is for any but 100 to 599.
	Codes       map[int]uint64 `json:"codes,omitempty"`
	Broken      uint64         `json:"broken"` // answers that were broken off
	NoBackend   uint64         `json:"no_backend"`
	Retries     uint64         `json:"retries"`
	Tunnels     uint64         `json:"tunnels"`      // connections that changed their protocol
	RateLimited uint64         `json:"rate_limited"` // requests of clients that made too many
	Malformed   uint64         `json:"malformed"`    // connections that ended at what is no HTTP
	Unannounced uint64         `json:"unannounced"`  // connections without the PROXY header that they owe
	// Mirrored are copies of requests that were sent, MirrorDrops those that
	// could not be.
	Mirrored    uint64 `json:"mirrored"`
	MirrorDrops uint64 `json:"mirror_drops"`
	Cache       Cache  `json:"cache"`
}

// Cache counts requests of routes that store answers, and what is stored. A
// service that stores none any more counts no more.
type Cache struct {
	Hits        uint64 `json:"hits"`        // answered without a backend
	Misses      uint64 `json:"misses"`      // sent to a backend
	Stale       uint64 `json:"stale"`       // answered with what was fresh no more
	Revalidated uint64 `json:"revalidated"` // of misses: what was stored still held
	Bytes       uint64 `json:"bytes"`       // stored now
	Pages       uint64 `json:"pages"`       // URLs of which something is stored now
}

// Answers count by their status.
type Answers struct {
	Good      uint64 `json:"2xx"`
	Elsewhere uint64 `json:"3xx"`
	Clients   uint64 `json:"4xx"` // the client is to blame
	Servers   uint64 `json:"5xx"`
}

// Answered adds n answers of a status; 0 is any but 100 to 599.
func (h *HTTP) Answered(status int, n uint64) {
	if h.Codes == nil {
		h.Codes = map[int]uint64{}
	}
	h.Codes[status] += n
	switch status / 100 {
	case 2:
		h.Answers.Good += n
	case 3:
		h.Answers.Elsewhere += n
	case 4:
		h.Answers.Clients += n
	case 5:
		h.Answers.Servers += n
	}
}

// UDP counts flows and datagrams.
type UDP struct {
	Flows      int    `json:"flows"`     // now
	MaxFlows   int    `json:"max_flows"` // that there may be
	Opened     uint64 `json:"opened"`
	Evicted    uint64 `json:"evicted"` // flows that made room for others
	ToBackends uint64 `json:"to_backends_datagrams"`
	ToClients  uint64 `json:"to_clients_datagrams"`
	NoBackend  uint64 `json:"no_backend"`
	// Denied and SourceLimit are datagrams that could not make a flow, of
	// those Dropped.
	Denied      uint64 `json:"denied"`
	SourceLimit uint64 `json:"source_limit"`
	Dropped     uint64 `json:"dropped"`
}

// Fragments count those that came before the first one of their datagram, since
// the agent started.
type Fragments struct {
	Held      int64  `json:"held"`       // now
	Bytes     int64  `json:"held_bytes"` // now, with their overhead
	Taken     uint64 `json:"taken"`
	GivenBack uint64 `json:"given_back"` // to the kernel, which counts them again
	// TimedOut, NoRoom and Failed were dropped: the first has not come in time,
	// others took more memory than there is, or the kernel did not take them.
	TimedOut uint64 `json:"timed_out"`
	NoRoom   uint64 `json:"no_room"`
	Failed   uint64 `json:"failed"`
}
