package refmodel

import "encoding/binary"

var be = binary.BigEndian

const (
	ethLen = 14
	ipLen  = 20
	tcpLen = 20
	udpLen = 8

	typeIPv4 = 0x0800
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
	odd   Verdict
	tuple Tuple
	ttl   uint8
	total int  // total length of IP
	df    bool // don't fragment
	id    uint16
	part  part
	bad   bool // lengths that contradict each other
	flags uint8
	seq   uint32
	ack   uint32
	data  int // length of the TCP payload
}

// pureSYN says that a client starts a connection.
func (p *packet) pureSYN() bool {
	return p.tuple.Proto == TCP && p.flags&(SYN|ACK|RST|FIN) == SYN
}

func (p *packet) rst() bool { return p.tuple.Proto == TCP && p.flags&RST != 0 }

// network steps over the Ethernet header and up to two tags. At is -1 if no
// IPv4 header follows.
func network(frame []byte) (at, tags int) {
	if len(frame) < ethLen || frame[0]&1 != 0 {
		return -1, 0
	}
	at = ethLen
	kind := be.Uint16(frame[12:])
	for tags < 2 && (kind == typeVLAN || kind == typeQinQ) {
		if len(frame) < at+4 {
			return -1, tags
		}
		kind = be.Uint16(frame[at+2:])
		at += 4
		tags++
	}
	if kind != typeIPv4 || len(frame) < at+ipLen || frame[at]>>4 != 4 {
		return -1, tags
	}
	return at, tags
}

// visible is the frame, or its linear part if not all headers lie in that.
func visible(frame []byte, linear int) []byte {
	if linear >= len(frame) {
		return frame
	}
	cut := frame[:linear]
	at, _ := network(cut)
	if at < 0 {
		return cut
	}
	need := at + ipLen
	switch cut[at+9] {
	case TCP:
		need += tcpLen
	case UDP:
		need += udpLen
	}
	if linear < need {
		return cut
	}
	return frame
}

// parse is rule 1.
func parse(frame []byte, linear int) *packet {
	p := &packet{frame: frame, linear: min(linear, len(frame)), odd: PassOther}
	seen := visible(frame, linear)
	at, tags := network(seen)
	if at < 0 {
		return p
	}
	ip := seen[at:]
	p.tuple.Dst = Addr(ip[16:20])
	p.odd = oddIP(ip, tags)
	p.tuple.Src = Addr(ip[12:16])
	p.tuple.Proto = ip[9]
	p.ttl = ip[8]
	p.total = int(be.Uint16(ip[2:]))
	p.df = be.Uint16(ip[6:])&0x4000 != 0
	p.id = be.Uint16(ip[4:])
	p.part = partOf(ip)
	if p.odd != PassOff || p.part == laterPart {
		return p
	}
	l4 := ip[ipLen:p.total]
	p.tuple.SPort = be.Uint16(l4[0:])
	p.tuple.DPort = be.Uint16(l4[2:])
	if p.tuple.Proto == TCP {
		p.tcp(l4)
	} else {
		length := int(be.Uint16(l4[4:]))
		p.bad = length < udpLen || length > len(l4) && p.part == wholePart
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

func oddIP(ip []byte, tags int) Verdict {
	header := 4 * int(ip[0]&0x0f)
	total := int(be.Uint16(ip[2:]))
	proto := ip[9]
	ports := proto == TCP || proto == UDP
	switch {
	case tags > 0:
		return PassVLAN
	case header < ipLen || total < header || total > len(ip):
		return PassMalformed
	case header > ipLen:
		return PassOptions
	case partOf(ip) != wholePart && !ports:
		return PassFragment
	case proto == ICMP:
		return PassICMP
	case !ports:
		return PassOther
	case total-header < 8 && partOf(ip) != laterPart:
		return PassMalformed
	}
	return PassOff
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
