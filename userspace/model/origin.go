package model

import (
	"net/netip"
	"time"
)

// AcceptProxy says which peers tell first, by the PROXY protocol, whom their
// connections are of. The zero value is nobody.
type AcceptProxy struct {
	From    []netip.Prefix
	Timeout time.Duration // from 10ms to 1h: until all of it must have come
}

// A ProxyVersion is one of the PROXY protocol, by which a backend is told first
// whom a connection is of; "" is none.
type ProxyVersion string

// The versions of the PROXY protocol.
const (
	ProxyV1 ProxyVersion = "v1" // a line of text
	ProxyV2 ProxyVersion = "v2" // binary
)

// OwnHeader returns what says that a connection is of nobody else, such as that of
// a check.
func (v ProxyVersion) OwnHeader() string {
	switch v {
	case ProxyV1:
		return "PROXY UNKNOWN\r\n"
	case ProxyV2:
		return "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	}
	return ""
}

// UserSpace reports whether XDP never forwards the service.
func (s *Service) UserSpace() bool { return s.Forward.UserSpace() || s.ByProxyProtocol() != "" }

// ByProxyProtocol returns which key makes the service one of user space, since
// the kernel does not speak the PROXY protocol, "" if none does.
func (s *Service) ByProxyProtocol() string {
	switch {
	case len(s.AcceptProxy.From) > 0:
		return "accept-proxy"
	case s.SendProxy != "":
		return "send-proxy"
	}
	return ""
}
