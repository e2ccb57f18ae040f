// Package nameserver is a name server of a test's own.
package nameserver

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A Server answers over UDP and TCP, at the same address. Its methods may be called
// at any time.
type Server struct {
	Addr netip.AddrPort

	mu      sync.Mutex
	records map[string][]dnsmessage.ResourceBody // by name, of all types
	ttl     uint32
	ill     bool
	asked   int
}

// New starts a server at an address, such as 127.0.0.1, that ends with the test.
func New(t *testing.T, at string) *Server {
	t.Helper()
	return NewAt(t, net.JoinHostPort(at, "0"))
}

// NewAt is [New] for an address and port.
func NewAt(t *testing.T, at string) *Server {
	t.Helper()
	tcp, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: netip.MustParseAddrPort(tcp.Addr().String()), records: map[string][]dnsmessage.ResourceBody{}}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(s.Addr))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { s.serveUDP(udp) })
	running.Go(func() { s.serveTCP(tcp) })
	t.Cleanup(func() {
		tcp.Close()
		udp.Close()
		running.Wait()
	})
	return s
}

// Set makes records what a name has from now on, for so many seconds each.
func (s *Server) Set(ttl uint32, name string, records ...dnsmessage.ResourceBody) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ttl = ttl
	s.records[name+"."] = records
}

// Fall makes the server answer that it has failed, or be well again.
func (s *Server) Fall(ill bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ill = ill
}

// Asked returns how many questions have come.
func (s *Server) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// A returns a record of an address of either family.
func A(addr string) dnsmessage.ResourceBody {
	a := netip.MustParseAddr(addr)
	if a.Is4() {
		return &dnsmessage.AResource{A: a.As4()}
	}
	return &dnsmessage.AAAAResource{AAAA: a.As16()}
}

// Alias returns a CNAME record.
func Alias(of string) dnsmessage.ResourceBody {
	return &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(of + ".")}
}

// SRV returns a record of a service.
func SRV(host string, port, priority, weight uint16) dnsmessage.ResourceBody {
	return &dnsmessage.SRVResource{Target: dnsmessage.MustNewName(host + "."), Port: port, Priority: priority, Weight: weight}
}

func (s *Server) serveUDP(c *net.UDPConn) {
	const most = 512 // an answer that is longer comes over TCP
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		reply := s.answer(b[:n], most)
		_, _ = c.WriteToUDPAddrPort(reply, from) // who has left needs none
	}
}

func (s *Server) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.talk(c)
		c.Close()
	}
}

// talk answers one question.
func (s *Server) talk(c net.Conn) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return
	}
	reply := s.answer(b, 64<<10)
	_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)) // as above
}

// answer returns the reply to a message, cut if it has more than most bytes.
func (s *Server) answer(b []byte, most int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	var m dnsmessage.Message
	if m.Unpack(b) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}
	m.Additionals = nil
	name := strings.ToLower(q.Name.String())
	switch {
	case s.ill:
		m.RCode = dnsmessage.RCodeServerFailure
	case s.records[name] == nil:
		m.RCode = dnsmessage.RCodeNameError
	default:
		s.add(&m, q.Name, name, q.Type)
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	if len(reply) > most {
		m.Answers, m.Truncated = nil, true
		reply, _ = m.Pack() // it was packed with more
	}
	return reply
}

// add adds the records of a name that a question is for, through aliases.
func (s *Server) add(m *dnsmessage.Message, as dnsmessage.Name, name string, kind dnsmessage.Type) {
	for _, r := range s.records[name] {
		h := dnsmessage.ResourceHeader{Name: as, Class: dnsmessage.ClassINET, TTL: s.ttl, Type: typeOf(r)}
		alias, ok := r.(*dnsmessage.CNAMEResource)
		if !ok && h.Type != kind {
			continue
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: r})
		if ok {
			s.add(m, alias.CNAME, alias.CNAME.String(), kind)
		}
	}
}

func typeOf(r dnsmessage.ResourceBody) dnsmessage.Type {
	switch r.(type) {
	case *dnsmessage.AResource:
		return dnsmessage.TypeA
	case *dnsmessage.AAAAResource:
		return dnsmessage.TypeAAAA
	case *dnsmessage.CNAMEResource:
		return dnsmessage.TypeCNAME
	}
	return dnsmessage.TypeSRV
}
