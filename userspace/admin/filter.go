package admin

import (
	"fmt"
	"net/netip"

	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/model"
)

// A Filter says which flows are meant: those that fit all that is set in it.
type Filter struct {
	Service         string
	Client, Backend Place
	Protocol        model.Protocol
	// Kernel and Proxy say where flows are looked for.
	Kernel, Proxy bool
}

// A Place is some addresses, and one port of them if it is not 0. The zero value is
// every place.
type Place struct {
	Prefix netip.Prefix
	Port   uint16
}

// has reports whether an address is of the place.
func (p Place) has(a netip.AddrPort) bool {
	return (!p.Prefix.IsValid() || p.Prefix.Contains(a.Addr().Unmap())) && (p.Port == 0 || p.Port == a.Port())
}

// Fits reports whether a flow is meant, wherever it was found. An address that is
// not known is not valid, and of the zero place only.
func (f *Filter) Fits(service string, protocol model.Protocol, client, backend netip.AddrPort) bool {
	return (f.Service == "" || f.Service == service) && (f.Protocol == "" || f.Protocol == protocol) &&
		f.Client.has(client) && f.Backend.has(backend)
}

// newFilter reads what a call says.
func newFilter(m *adminpb.FlowFilter) (f *Filter, err error) {
	f = &Filter{Service: m.GetService(), Protocol: model.Protocol(m.GetProtocol()), Kernel: true, Proxy: true}
	if f.Client, err = place("client", m.GetClient()); err != nil {
		return nil, err
	}
	if f.Backend, err = place("backend", m.GetBackend()); err != nil {
		return nil, err
	}
	switch f.Protocol {
	case "", model.TCP, model.UDP:
	default:
		return nil, fmt.Errorf("%w: filter.protocol is %q: use tcp or udp", ErrRequest, f.Protocol)
	}
	switch m.GetPath() {
	case "":
	case pathKernel:
		f.Proxy = false
	case pathProxy:
		f.Kernel = false
	default:
		return nil, fmt.Errorf("%w: filter.path is %q: use kernel or proxy", ErrRequest, m.GetPath())
	}
	return f, nil
}

// Where flows are.
const (
	pathKernel = "kernel"
	pathProxy  = "proxy"
)

// place reads an address, an address and port, or a prefix.
func place(field, text string) (p Place, err error) {
	if text == "" {
		return p, nil
	}
	if a, err := netip.ParseAddrPort(text); err == nil {
		return Place{netip.PrefixFrom(a.Addr().Unmap(), a.Addr().Unmap().BitLen()), a.Port()}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return Place{Prefix: netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())}, nil
	}
	if p.Prefix, err = netip.ParsePrefix(text); err != nil {
		return p, fmt.Errorf("%w: filter.%s is %q: use an address, address:port or network, such as 10.0.0.0/8", ErrRequest, field, text)
	}
	p.Prefix = p.Prefix.Masked()
	return p, nil
}
