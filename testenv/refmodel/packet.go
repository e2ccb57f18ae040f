package refmodel

import "encoding/binary"

var be = binary.BigEndian

const (
	ethLen = 14
	tcpLen = 20
	udpLen = 8

	typeVLAN = 0x8100
	typeQinQ = 0x88a8
)

// Flags of TCP.
const (
	FIN = 0x01
	SYN = 0x02
	RST = 0x04
	ACK = 0x10
)

// A part says what of a datagram a packet is.
type part int

const (
	wholePart part = iota
	firstPart      // a fragment at offset 0
	laterPart      // one behind it
)

// A packet is what parse found in a frame.
type packet struct {
	frame  []byte
	linear int // how much of it lies in the linear part
	// odd is what becomes of a packet that cannot be handled, if it is to a
	// service address: PassOther if it never is, PassOff if it is not odd.
	// Then only what the IP header says is set.
	odd    Verdict
	family *family // nil: it is no IP
	wide   bool    // fairlead46 looks at it
	tuple  Tuple
	ttl    uint8
	tos    uint8
	total  int  // total length of IP
	l4     int  // where the header of tuple.Proto begins in the frame
	df     bool // don't fragment
	id     uint32
	part   part
	place  uint16 // a fragment's offset in bytes, and 1 if more follow
	hides  bool   // extension headers follow the fragment header
	bad    bool   // lengths that contradict each other
	flags  uint8
	seq    uint32
	ack    uint32
	data   int // length of the TCP payload
}

// pureSYN says that a client starts a connection.
func (p *packet) pureSYN() bool {
	return p.tuple.Proto == TCP && p.flags&(SYN|ACK|RST|FIN) == SYN
}

func (p *packet) rst() bool { return p.tuple.Proto == TCP && p.flags&RST != 0 }

// extended says that there are extension headers.
func (p *packet) extended() bool { return p.l4 > ethLen+p.family.header }

// network steps over the Ethernet header and up to two tags. The family is nil
// if no IP header follows.
func network(frame []byte) (f *family, at, tags int) {
	if len(frame) < ethLen || frame[0]&1 != 0 {
		return nil, 0, 0
	}
	at = ethLen
	kind := be.Uint16(frame[12:])
	for tags < 2 && (kind == typeVLAN || kind == typeQinQ) {
		if len(frame) < at+4 {
			return nil, at, tags
		}
		kind = be.Uint16(frame[at+2:])
		at += 4
		tags++
	}
	for _, f := range []*family{&ipv4, &ipv6} {
		if kind == f.kind && len(frame) >= at+f.header && frame[at]>>4 == f.version {
			return f, at, tags
		}
	}
	return nil, at, tags
}

// visible is the frame, or its linear part if not all headers lie in that.
func visible(frame []byte, linear int) []byte {
	if linear >= len(frame) {
		return frame
	}
	cut := frame[:linear]
	f, at, _ := network(cut)
	if f == nil {
		return cut
	}
	need, proto := f.header, cut[at+9]
	if f == &ipv6 {
		proto = NoHeader
		if f.total(cut[at:]) <= len(frame)-at {
			c := extensions(frame[at:])
			proto, need = c.proto, c.end
			if c.part == laterPart {
				proto = NoHeader
			}
		}
	}
	switch proto {
	case TCP:
		need += tcpLen
	case UDP:
		need += udpLen
	}
	if linear < at+need {
		return cut
	}
	return frame
}

// parse is rule 1.
func parse(frame []byte, linear int) *packet {
	p := &packet{frame: frame, linear: min(linear, len(frame)), odd: PassOther}
	seen := visible(frame, linear)
	f, at, tags := network(seen)
	if f == nil {
		return p
	}
	ip := seen[at:]
	p.family = f
	p.tuple.Src, p.tuple.Dst = f.addrs(ip)
	p.total = f.total(ip)
	p.ttl = ip[f.ttl]
	p.l4 = at + f.header
	if f == &ipv4 {
		p.tuple.Proto = ip[9]
		p.tos = ip[1]
		p.df = be.Uint16(ip[6:])&0x4000 != 0
		p.id = uint32(be.Uint16(ip[4:])) << 16
		p.odd = oddIPv4(ip)
		if p.odd == PassOff {
			p.part = partOf(ip)
			field := be.Uint16(ip[6:])
			p.place = field<<3 | field>>13&1
		}
	} else {
		p.df = true
		p.tos = uint8(be.Uint16(ip) >> 4)
		p.odd = PassMalformed
		if p.total <= len(ip) {
			c := extensions(ip)
			p.tuple.Proto, p.l4, p.odd, p.part, p.id = c.proto, at+c.end, c.odd, c.part, c.id
			p.place, p.hides = c.place, c.hides
		}
	}
	if tags > 0 {
		p.odd, p.part = PassVLAN, wholePart
	}
	if p.odd == PassOff && p.part != laterPart {
		p.transport(seen[p.l4 : at+p.total])
	}
	return p
}

func partOf(ip []byte) part {
	switch field := be.Uint16(ip[6:]); {
	case field&0x1fff != 0:
		return laterPart
	case field&0x2000 != 0:
		return firstPart
	}
	return wholePart
}

func oddIPv4(ip []byte) Verdict {
	header := 4 * int(ip[0]&0x0f)
	total := ipv4.total(ip)
	switch {
	case header < ipv4.header || total < header || total > len(ip):
		return PassMalformed
	case header > ipv4.header:
		return PassOptions
	case partOf(ip) != wholePart && ip[9] != TCP && ip[9] != UDP:
		return PassFragment
	}
	return PassOff
}

// transport reads what follows the headers of IP.
func (p *packet) transport(l4 []byte) {
	switch proto := p.tuple.Proto; {
	case proto == p.family.icmp && p.part == firstPart:
		p.odd = PassFragment
	case proto == p.family.icmp:
		p.odd = PassICMP
	case proto != TCP && proto != UDP:
		p.odd = PassOther
	case len(l4) < 8:
		p.odd = PassMalformed
	default:
		p.tuple.SPort = be.Uint16(l4[0:])
		p.tuple.DPort = be.Uint16(l4[2:])
		if proto == TCP {
			p.tcp(l4)
		} else {
			length := int(be.Uint16(l4[4:]))
			p.bad = length < udpLen || length > len(l4) && p.part == wholePart
		}
	}
}

func (p *packet) tcp(l4 []byte) {
	if len(l4) < tcpLen {
		p.bad = true
		return
	}
	header := 4 * int(l4[12]>>4)
	if header < tcpLen || header > len(l4) {
		p.bad = true
		return
	}
	p.seq = be.Uint32(l4[4:])
	p.ack = be.Uint32(l4[8:])
	p.flags = l4[13]
	p.data = len(l4) - header
}

// Read is the tuple of a packet that can have a flow, and where in the frame
// its TCP or UDP begins. Not ok says that no packet like it has one, or that
// it does not tell.
func Read(frame []byte) (t Tuple, l4 int, ok bool) {
	p := parse(frame, len(frame))
	return p.tuple, p.l4, p.odd == PassOff && p.part != laterPart
}
