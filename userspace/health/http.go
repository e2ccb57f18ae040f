package health

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"fairlead/userspace/certs"
	"fairlead/userspace/model"
)

const (
	maxHead = 64 << 10 // of an HTTP answer's status and header
	maxBody = 64 << 10 // of its body; what follows is not looked at
)

// probeHTTP asks for a page over HTTP/1.1, on a connection of its own.
//
// Healthy is a status in range, or a body that is a JSON object whose "state"
// is "healthy", whatever the status; the body must contain what the check
// expects in any case. A redirect is an answer like any other. The body is
// read only if it matters, up to 64 KiB.
func probeHTTP(ctx context.Context, t Target) error {
	request, err := httpRequest(t)
	if err != nil {
		return err
	}
	conn, err := dial(ctx, "tcp", t)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer interrupt(ctx, conn)()

	if t.Check.Type == model.CheckHTTPS {
		conf, err := tlsConfig(t)
		if err != nil {
			return err
		}
		secure := tls.Client(conn, conf)
		if err := secure.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("shake hands: %w", err)
		}
		conn = secure
	}
	if _, err := conn.Write(request); err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	answer, err := readAnswer(conn, t.Check.Method)
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return judge(t.Check, answer)
}

// tlsConfig says whom to trust, and what to show, by what the check's files have now.
// Without a name there, the certificate must be for the check's host, or for the
// backend's address.
func tlsConfig(t Target) (*tls.Config, error) {
	c, err := certs.Client(&t.Check.TLS, nil)
	if err != nil {
		return nil, err
	}
	name := t.Check.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	c.ServerName = cmp.Or(c.ServerName, strings.Trim(name, "[]"), t.Address.Addr().WithZone("").String())
	c.InsecureSkipVerify = c.InsecureSkipVerify || t.Check.SkipVerify
	return c, nil
}

// httpRequest returns the bytes to send. Headers of the check keep their order
// and take the place of those that are sent without it.
func httpRequest(t Target) ([]byte, error) {
	if !plain(t.Check.Path) || !plain(t.Check.Host) || !plain(t.Check.Method) {
		return nil, fmt.Errorf("make request: bad path %q, host %q or method %q", t.Check.Path, t.Check.Host, t.Check.Method)
	}
	headers := []model.Header{
		{Name: "Host", Value: cmp.Or(t.Check.Host, defaultHost(t))},
		{Name: "User-Agent", Value: "fairlead-health"},
		{Name: "Accept", Value: "*/*"},
		{Name: "Connection", Value: "close"},
	}
	kept := headers[:0]
	for _, h := range headers {
		if !has(t.Check.Headers, h.Name) {
			kept = append(kept, h)
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", cmp.Or(t.Check.Method, http.MethodGet), t.Check.Path)
	for _, h := range append(kept, t.Check.Headers...) {
		if !httpguts.ValidHeaderFieldName(h.Name) || !httpguts.ValidHeaderFieldValue(h.Value) {
			return nil, fmt.Errorf("make request: bad header %q: %q", h.Name, h.Value)
		}
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	b.WriteString("\r\n")
	return b.Bytes(), nil
}

// defaultHost is the backend's address, without a port that goes without saying.
func defaultHost(t Target) string {
	usual := uint16(80)
	if t.Check.Type == model.CheckHTTPS {
		usual = 443
	}
	addr, port := t.Address.Addr().WithZone(""), t.Address.Port()
	if port != usual {
		return netip.AddrPortFrom(addr, port).String()
	}
	if addr.Is6() {
		return "[" + addr.String() + "]"
	}
	return addr.String()
}

func has(headers []model.Header, name string) bool {
	for _, h := range headers {
		if strings.EqualFold(h.Name, name) {
			return true
		}
	}
	return false
}

// readAnswer reads the head of the final answer.
func readAnswer(conn net.Conn, method string) (*http.Response, error) {
	limited := &io.LimitedReader{R: conn, N: maxHead}
	r := bufio.NewReader(limited)
	for {
		answer, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil && limited.N == 0 {
			err = errors.New("header too long")
		}
		if err != nil {
			return nil, err
		}
		if answer.StatusCode >= 200 || answer.StatusCode == http.StatusSwitchingProtocols {
			limited.N = 2 * maxBody // chunks have heads, too
			return answer, nil
		}
	}
}

// judge decides whether the answer is that of a healthy backend.
func judge(c model.Check, answer *http.Response) error {
	var bad error
	if !slices.ContainsFunc(c.Statuses, func(r model.StatusRange) bool { return r.Min <= answer.StatusCode && answer.StatusCode <= r.Max }) {
		bad = fmt.Errorf("status %d is not in %s", answer.StatusCode, ranges(c.Statuses))
	}
	if bad == nil && c.Expect == "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	if bad != nil && !saysHealthy(body) {
		return bad
	}
	if strings.Contains(string(body), c.Expect) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	return fmt.Errorf("body lacks %s", quote([]byte(c.Expect)))
}

// ranges returns some statuses as text.
func ranges(all []model.StatusRange) string {
	words := make([]string, len(all))
	for i, r := range all {
		if words[i] = fmt.Sprintf("%d to %d", r.Min, r.Max); r.Min == r.Max {
			words[i] = fmt.Sprint(r.Min)
		}
	}
	return strings.Join(words, ", ")
}

// saysHealthy reports whether body is JSON like {"state": "healthy"}.
func saysHealthy(body []byte) bool {
	var fields map[string]any
	return json.Unmarshal(body, &fields) == nil && fields["state"] == "healthy"
}
