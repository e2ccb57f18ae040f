package httpproxy

import (
	"net/http"
	"net/netip"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// forwarding are the headers by which proxies tell backends of clients. One with
// _ in place of - is the same to many a backend.
var forwarding = map[string]bool{
	"forwarded": true, "x-forwarded": true, "x-forwarded-for": true, "x-forwarded-host": true, "x-forwarded-proto": true,
	"x-forwarded-port": true, "x-forwarded-server": true, "x-forwarded-ssl": true, "x-forwarded-scheme": true, "x-forwarded-prefix": true, "x-real-ip": true,
}

// setForwarded tells the backend of the client. What the client says itself is
// dropped unless it is trusted.
func setForwarded(x *exchange, out http.Header) {
	for name := range out {
		if isForwarding(name) && (!x.trusted || strings.Contains(name, "_")) {
			delete(out, name)
		}
	}
	scheme := "http"
	if x.in.TLS != nil {
		scheme = "https"
	}
	var prior http.Header
	if x.trusted {
		prior = x.in.Header
	}
	const list, proto, host = "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"
	const all = "Forwarded"
	hops := prior.Values(all)
	if len(hops) == 0 {
		hops = translated(prior.Get(proto), prior.Get(host), prior.Values(list))
	}
	values := [...]string{
		after(prior.Values(list), x.peer.Addr().String()),
		after(hops, "for="+node(x.peer.Addr())+";host="+quoted(x.in.Host)+";proto="+scheme),
		scheme,
		x.in.Host,
	}
	for i, name := range [...]string{list, all, proto, host} {
		if had := prior.Values(name); i > 1 && len(had) > 0 {
			out[name] = had
		} else {
			out[name] = values[i : i+1 : i+1] // one piece of memory for all
		}
	}
}

// translated returns what Forwarded has for those in X-Forwarded-For, of whom the first
// is who asked for this host by this protocol (RFC 7239, section 7.4).
func translated(proto, host string, list []string) (hops []string) {
	for _, lines := range list {
		for text := range strings.SplitSeq(lines, ",") {
			hop := "for=unknown"
			if a, err := netip.ParseAddr(strings.TrimSpace(text)); err == nil {
				hop = "for=" + node(a.WithZone(""))
			}
			if len(hops) == 0 && host != "" && httpguts.ValidHostHeader(host) {
				hop += ";host=" + quoted(host)
			}
			if len(hops) == 0 && httpguts.ValidHeaderFieldName(proto) { // a token
				hop += ";proto=" + proto
			}
			hops = append(hops, hop)
		}
	}
	return hops
}

// isForwarding reports whether a header is one of forwarding. Most are none by their
// first letter.
func isForwarding(name string) bool {
	if name == "" || name[0]|0x20 != 'x' && name[0]|0x20 != 'f' {
		return false
	}
	return forwarding[strings.ReplaceAll(strings.ToLower(name), "_", "-")]
}

// after returns the list that prior lines make, and one more element.
func after(prior []string, last string) string {
	if len(prior) == 0 {
		return last
	}
	return strings.Join(prior, ", ") + ", " + last
}

// node returns an address as Forwarded has it (RFC 7239, section 6).
func node(a netip.Addr) string {
	if a.Is6() {
		return `"[` + a.String() + `]"`
	}
	return a.String()
}

// quoted returns a quoted string.
func quoted(s string) string { return `"` + quotes.Replace(s) + `"` }

var quotes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// origin returns the client that a trusted peer forwards for: of those in
// X-Forwarded-For the last that is not trusted itself, or else the first.
func origin(h http.Header, peer netip.Addr, trusts func(netip.Addr) bool) netip.Addr {
	client := peer
	all := strings.Split(strings.Join(h.Values("X-Forwarded-For"), ","), ",")
	for i := range all {
		a, err := netip.ParseAddr(strings.TrimSpace(all[len(all)-1-i]))
		if err != nil {
			return client
		}
		if client = a.Unmap().WithZone(""); !trusts(client) {
			return client
		}
	}
	return client
}
