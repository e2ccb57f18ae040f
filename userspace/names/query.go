package names

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fairlead/userspace/model"
)

// An answer is what a name server says to a question.
type answer struct {
	addrs   []netip.Addr // in order
	targets []target     // in order
	ttl     time.Duration
}

// A target is a host of a service, by an SRV record.
type target struct {
	host             string
	port             uint16
	priority, weight uint16
}

func (a *answer) empty() bool { return len(a.addrs)+len(a.targets) == 0 }

// maxWeight is what backends weigh at most.
const maxWeight = 1000

// weightAmong returns the weight of a target that is among these: as the records
// say, so that the largest fits; if they say nothing all are alike.
func (t target) weightAmong(list []target) int {
	most := 0
	for _, o := range list {
		most = max(most, int(o.weight))
	}
	switch {
	case most == 0:
		return 1
	case most <= maxWeight:
		return max(1, int(t.weight))
	}
	return max(1, int(t.weight)*maxWeight/most)
}

// Bounds of what a server is asked and believed.
const (
	rounds      = 2    // of asking all servers
	maxDatagram = 1232 // bytes of an answer over UDP
	maxRecords  = 128  // that count of an answer
	maxMessage  = 64<<10 - 1
)

// errTruncated says that an answer did not fit into a datagram.
var errTruncated = errors.New("answer is truncated")

// errNoName says that there is no such name; other servers would say the same.
var errNoName = errors.New("there is no such name")

// localhost is this host, of which servers know nothing (RFC 6761, section 6.3). It has
// one address, as a server that listens on both would be two backends.
const localhost = "localhost"

// query asks the servers of a configuration in turn until one answers.
func query(ctx context.Context, conf *model.Resolver, q question) (answer, error) {
	if q.name == localhost || strings.HasSuffix(q.name, "."+localhost) {
		a := answer{ttl: conf.MaxTTL}
		if q.kind == dnsmessage.TypeA {
			a.addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
		}
		return a, nil
	}
	servers := conf.Servers
	if len(servers) == 0 {
		servers = systemServers("/etc/resolv.conf")
	}
	name, err := dnsmessage.NewName(q.name + ".")
	if err != nil {
		return answer{}, fmt.Errorf("make query: %w", err)
	}
	var last error
	for range rounds {
		for _, server := range servers {
			a, err := exchange(ctx, server, conf.Timeout, dnsmessage.Question{Name: name, Type: q.kind, Class: dnsmessage.ClassINET})
			if err == nil || errors.Is(err, errNoName) || ctx.Err() != nil {
				return a, err
			}
			last = fmt.Errorf("ask %s: %w", server, err)
		}
	}
	return answer{}, last
}

// systemServers returns the name servers of a file as resolv.conf(5) has it, this
// host if it has none.
func systemServers(path string) (all []netip.AddrPort) {
	const port = 53
	text, _ := os.ReadFile(path) // as if it were empty
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(words[1]); err == nil {
			all = append(all, netip.AddrPortFrom(addr, port))
		}
	}
	if len(all) == 0 {
		return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}
	}
	return all
}

// exchange asks one server: over UDP, and over TCP if the answer is too long.
func exchange(ctx context.Context, server netip.AddrPort, timeout time.Duration, q dnsmessage.Question) (answer, error) {
	a, err := exchangeOver(ctx, "udp", server, timeout, q)
	if errors.Is(err, errTruncated) {
		return exchangeOver(ctx, "tcp", server, timeout, q)
	}
	return a, err
}

func exchangeOver(ctx context.Context, network string, server netip.AddrPort, timeout time.Duration, q dnsmessage.Question) (answer, error) {
	id := uint16(rand.Uint32())
	request, err := pack(id, q)
	if err != nil {
		return answer{}, fmt.Errorf("make query: %w", err)
	}
	d := net.Dialer{Timeout: timeout}
	conn, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return answer{}, fmt.Errorf("set deadline: %w", err)
	}
	if network == "tcp" {
		request = append(binary.BigEndian.AppendUint16(nil, uint16(len(request))), request...)
	}
	if _, err := conn.Write(request); err != nil {
		return answer{}, fmt.Errorf("send query: %w", cause(err))
	}
	for {
		reply, err := receive(conn, network)
		if err != nil {
			return answer{}, fmt.Errorf("await answer: %w", cause(err))
		}
		if a, ours, err := parse(reply, id, q); ours {
			return a, err
		}
	}
}

// cause returns why a connection failed, without its ports: ours is another each time,
// and what repeats is to be said once.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// pack makes a query that allows for datagrams of maxDatagram bytes (RFC 6891).
func pack(id uint16, q dnsmessage.Question) ([]byte, error) {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{ID: id, RecursionDesired: true}, Questions: []dnsmessage.Question{q},
		Additionals: []dnsmessage.Resource{{Body: &dnsmessage.OPTResource{}}},
	}
	if err := m.Additionals[0].Header.SetEDNS0(maxDatagram, dnsmessage.RCodeSuccess, false); err != nil {
		return nil, err
	}
	return m.Pack()
}

func receive(conn net.Conn, network string) ([]byte, error) {
	if network == "udp" {
		reply := make([]byte, maxMessage)
		n, err := conn.Read(reply)
		return reply[:n], err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	reply := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, reply)
	return reply, err
}

// parse reads a message. ours is false if it does not answer the question.
func parse(reply []byte, id uint16, q dnsmessage.Question) (a answer, ours bool, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(reply)
	if err != nil || h.ID != id || !h.Response {
		return a, false, nil
	}
	got, err := p.AllQuestions()
	if err != nil || len(got) != 1 || got[0].Type != q.Type || got[0].Class != q.Class || lower(got[0].Name) != lower(q.Name) {
		return a, false, nil
	}
	switch {
	case h.Truncated:
		return a, true, errTruncated
	case h.RCode == dnsmessage.RCodeNameError:
		return a, true, errNoName
	case h.RCode != dnsmessage.RCodeSuccess:
		return a, true, fmt.Errorf("server says %s", strings.TrimPrefix(h.RCode.String(), "RCode"))
	}
	records, err := p.AllAnswers()
	if err != nil {
		return a, true, fmt.Errorf("parse answer: %w", err)
	}
	a.read(records, q)
	return a, true, nil
}

func lower(n dnsmessage.Name) string { return strings.ToLower(n.String()) }

// read takes over the records that the question leads to, through aliases too.
func (a *answer) read(records []dnsmessage.Resource, q dnsmessage.Question) {
	names, ttl := map[string]bool{lower(q.Name): true}, uint32(1<<31)
	for more := true; more; { // an alias may stand behind what it leads to
		more = false
		for _, r := range records {
			if c, ok := r.Body.(*dnsmessage.CNAMEResource); ok && names[lower(r.Header.Name)] && !names[lower(c.CNAME)] {
				names[lower(c.CNAME)], more = true, true
				ttl = min(ttl, r.Header.TTL)
			}
		}
	}
	for _, r := range records {
		if !names[lower(r.Header.Name)] || r.Header.Type != q.Type || len(a.addrs)+len(a.targets) == maxRecords {
			continue
		}
		ttl = min(ttl, r.Header.TTL)
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			a.addrs = append(a.addrs, netip.AddrFrom4(b.A))
		case *dnsmessage.AAAAResource:
			if addr := netip.AddrFrom16(b.AAAA); !addr.Is4In6() {
				a.addrs = append(a.addrs, addr)
			}
		case *dnsmessage.SRVResource:
			if host := strings.TrimSuffix(lower(b.Target), "."); host != "" && b.Port != 0 { // "." is: no such service
				a.targets = append(a.targets, target{host, b.Port, b.Priority, b.Weight})
			}
		}
	}
	if a.empty() {
		ttl = 0
	}
	a.ttl = time.Duration(ttl) * time.Second
	slices.SortFunc(a.addrs, netip.Addr.Compare)
	a.addrs = slices.Compact(a.addrs)
	slices.SortFunc(a.targets, target.compare)
}

// compare orders targets: by priority, and then so that the order in which a name
// server has them does not matter.
func (t target) compare(u target) int {
	return cmp.Or(cmp.Compare(t.priority, u.priority), cmp.Compare(t.host, u.host), cmp.Compare(t.port, u.port))
}
