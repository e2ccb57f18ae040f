package model

import (
	"reflect"
	"time"
)

// CheckType is a kind of health check.
type CheckType string

// The kinds of health check.
const (
	CheckNone  CheckType = "none" // always up
	CheckTCP   CheckType = "tcp"
	CheckHTTP  CheckType = "http"
	CheckHTTPS CheckType = "https"
	CheckUDP   CheckType = "udp"
	CheckDNS   CheckType = "dns"
	CheckGRPC  CheckType = "grpc"
	CheckExec  CheckType = "exec"
)

// A Check says how to judge a backend. It is comparable with [Check.Equal].
type Check struct {
	Type     CheckType
	Interval time.Duration // from start to start of two probes
	Timeout  time.Duration // of one probe; not longer than Interval
	Rise     int           // successes in a row until a backend is up
	Fall     int           // failures in a row until it is down
	// Port is probed instead of the backend's. 0 means the backend's.
	Port uint16
	// SendProxy is what a probe over TCP begins with.
	SendProxy ProxyVersion
	// Jitter bounds the random time by which each probe comes later than Interval
	// has it. It is no longer than half of that.
	Jitter time.Duration
	// FastInterval is Interval while results go against what is known, until they
	// have changed it or not. 0 means Interval.
	FastInterval time.Duration
	Initial      Initial
	Agent        AgentCheck
	// Method is what HTTP asks with, default "GET".
	Method string
	// Path is what HTTP asks for, default "/".
	Path string
	// Host is the Host header, TLS server name or gRPC authority.
	Host    string
	Headers []Header // of the HTTP request, in order
	// Statuses are the HTTP status codes that count as healthy; none: 200 to 399.
	Statuses []StatusRange
	// Expect must be part of the body (HTTP) or of the answer (UDP).
	Expect string
	// Send is the payload of a UDP probe.
	Send string
	// SkipVerify accepts any certificate (HTTPS).
	SkipVerify bool
	// TLS says whom to trust and what to show (HTTPS); its ServerName goes before
	// Host.
	TLS BackendTLS
	// Query is the name that a DNS probe asks for (type A), default ".".
	Query string
	// Service is the name that a gRPC probe asks about, "" for the server.
	Service string
	// Command is the program and arguments of an exec probe. It finds the
	// backend in FAIRLEAD_ADDRESS and FAIRLEAD_PORT; status 0 is healthy.
	Command []string
}

// Initial says what a backend counts as before its first probe.
type Initial string

// What backends count as at first.
const (
	InitialUsual Initial = ""           // up, but as the kernel has it from a former agent
	InitialUp    Initial = "up"         // whatever was known
	InitialDown  Initial = "down"       // new ones, until a probe succeeds
	InitialLast  Initial = "last-known" // as a former agent had it, in the kernel or not
)

// An AgentCheck says where a backend's own agent tells how it is: whether it is up
// and how much it may have, as for agent-check of HAProxy. A Port of 0 is none.
type AgentCheck struct {
	Port              uint16
	Interval, Timeout time.Duration
	Send              string // before an answer is read
}

// A StatusRange is the HTTP status codes from Min to Max.
type StatusRange struct{ Min, Max int }

// A Header is one line of an HTTP header.
type Header struct{ Name, Value string }

// Equal reports whether two checks judge alike.
func (c Check) Equal(d Check) bool { return reflect.DeepEqual(c, d) }
