package kernel

import (
	"fmt"
	"net/netip"
	"strings"

	"fairlead/loader"
)

// An Asked is a packet that is asked about, in words.
type Asked struct {
	UDP         bool
	From, To    string   // address:port
	Flags       []string // of TCP
	TTL, Length uint
}

// maxLength is the longest packet that fits the one page of a dry run's frame.
const maxLength = 3000

// Question returns what the words mean. Errors name the fields, with a prefix, such as
// --from.
func (a Asked) Question(prefix string) (q loader.Question, err error) {
	if q.From, err = endpoint(prefix, "from", a.From); err != nil {
		return q, err
	}
	if q.To, err = endpoint(prefix, "to", a.To); err != nil {
		return q, err
	}
	if q.From.Addr().Is4() != q.To.Addr().Is4() {
		return q, fmt.Errorf("%sfrom %s and %sto %s are of two families: use IPv4 or IPv6 for both", prefix, q.From, prefix, q.To)
	}
	if q.UDP = a.UDP; !q.UDP {
		if q.Flags, err = tcpFlags(prefix+"flags", a.Flags); err != nil {
			return q, err
		}
	}
	if a.TTL > 255 {
		return q, fmt.Errorf("%sttl is %d: use 0 to 255", prefix, a.TTL)
	}
	if least := uint(q.Least()); a.Length != 0 && a.Length < least || a.Length > maxLength {
		return q, fmt.Errorf("%slength is %d: use %d to %d, or 0", prefix, a.Length, least, maxLength)
	}
	q.TTL, q.Length = uint8(a.TTL), uint16(a.Length)
	return q, nil
}

func endpoint(prefix, name, text string) (netip.AddrPort, error) {
	name = prefix + name
	if text == "" {
		return netip.AddrPort{}, fmt.Errorf("%s is missing: say the packet's, as ADDRESS:PORT", name)
	}
	at, err := netip.ParseAddrPort(text)
	switch {
	case err != nil:
		return at, fmt.Errorf("%s is %q: use ADDRESS:PORT, such as 203.0.113.10:80 or [2001:db8::10]:80", name, text)
	case at.Port() == 0:
		return at, fmt.Errorf("%s is %q: no packet has port 0, use 1 to 65535", name, text)
	case at.Addr().Zone() != "":
		return at, fmt.Errorf("%s is %q: say the interface with %sinterface, not behind the address", name, text, prefix)
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// flagWords are the keys of flagBits, in the order of the header.
var flagWords = []string{"fin", "syn", "rst", "psh", "ack"}

var flagBits = map[string]uint8{
	"fin": loader.TCPFin, "syn": loader.TCPSyn, "rst": loader.TCPRst, "psh": loader.TCPPsh, "ack": loader.TCPAck,
}

func tcpFlags(name string, words []string) (flags uint8, err error) {
	for _, word := range words {
		bit, ok := flagBits[strings.ToLower(word)]
		if !ok {
			return 0, fmt.Errorf("%s has %q: use fin, syn, rst, psh and ack", name, word)
		}
		flags |= bit
	}
	return flags, nil
}
