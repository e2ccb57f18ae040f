package httpproxy

import (
	"bytes"
	"math"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// A guard follows the framing of what a client sends over one connection, and finds
// what net/http lets pass although others may see other requests in it (RFC 9112,
// section 11.2): lines that do not end in CRLF, folded ones, lengths that are not
// one plain number, a length beside chunks. What net/http refuses by itself is left
// to it, so the two never differ about where a request ends.
//
// It ends where the connection changes its protocol: after the preface of HTTP/2,
// and after a request that asks for another one. The zero value is before the
// first request.
type guard struct {
	at    place
	later bool   // not the first request
	line  []byte // what has come of one whose end has not
	left  uint64 // bytes of a body or chunk
	head
}

// A head is what a request's header says about its end.
type head struct {
	old              bool // HTTP/1.0
	lengths, codings int  // lines that say so
	length           uint64
	chunked, upgrade bool
}

// A place is where in a request the next byte stands.
type place int

const (
	atRequest place = iota // or at an empty line before one
	inHeader
	inBody
	atSize // of a chunk
	inChunk
	atChunkEnd
	inTrailer
	atPreface // the rest of that of HTTP/2 follows
	inPreface
	afterPreface
	elsewhere // it is another protocol
)

// check returns how many bytes of p may be handed on; ok is false if those that follow
// may not. It must not be asked again then.
func (g *guard) check(p []byte) (fine int, ok bool) {
	for i := 0; i < len(p); {
		switch g.at {
		case elsewhere:
			return len(p), true
		case inBody, inChunk:
			n := min(g.left, uint64(len(p)-i))
			i += int(n)
			if g.left -= n; g.left == 0 {
				g.bodyEnds()
			}
			continue
		}
		end := bytes.IndexByte(p[i:], '\n')
		if end < 0 {
			g.line = append(g.line, p[i:]...)
			return len(p), true
		}
		line := p[i : i+end]
		if len(g.line) > 0 {
			line = append(g.line, line...)
		}
		text, ok := bytes.CutSuffix(line, []byte("\r"))
		if !ok || bytes.ContainsAny(text, "\r\x00") || !g.take(text) {
			return i + end, false // without its end it is no line to net/http either
		}
		g.line = g.line[:0]
		i += end + 1
	}
	return len(p), true
}

// bodyEnds goes on after the last byte of a body or chunk.
func (g *guard) bodyEnds() {
	if g.at == inChunk {
		g.at = atChunkEnd
		return
	}
	g.requestEnds()
}

// isInside reports whether a part of a body is yet to come.
func (g *guard) isInside() bool { return inBody <= g.at && g.at <= inTrailer }

// requestEnds goes on after the last byte of a request.
func (g *guard) requestEnds() {
	g.at, g.later, g.line = atRequest, true, nil
	if g.upgrade {
		g.at = elsewhere
	}
}

// take goes on after a line, and reports whether it may stand there.
func (g *guard) take(line []byte) bool {
	switch g.at {
	case atRequest:
		return g.request(line)
	case inHeader:
		if len(line) == 0 {
			return g.headerEnds()
		}
		return g.field(line)
	case atSize:
		return g.size(line)
	case atChunkEnd:
		g.at = atSize
		return len(line) == 0
	case inTrailer:
		if len(line) == 0 {
			g.requestEnds()
			return true
		}
		return g.trailer(line)
	case atPreface, afterPreface:
		g.at++
		return len(line) == 0
	}
	g.at++ // inPreface
	return string(line) == "SM"
}

// request takes the first line of a request.
func (g *guard) request(line []byte) bool {
	switch {
	case len(line) == 0:
		return true // net/http may ignore some
	case string(line) == "PRI * HTTP/2.0":
		g.at = atPreface
		return !g.later
	}
	g.at, g.head = inHeader, head{old: bytes.HasSuffix(line, []byte(" HTTP/1.0"))}
	return true
}

// split returns the name and the value of a header line; ok is false if it is none.
func split(line []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(line, []byte(":"))
	for _, c := range name {
		if !inToken(c) {
			return nil, nil, false
		}
	}
	return name, bytes.Trim(value, " \t"), ok && len(name) > 0
}

// inToken reports whether a token may have c (RFC 9110, section 5.6.2).
func inToken(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// field takes a line of the header.
func (g *guard) field(line []byte) bool {
	name, value, ok := split(line)
	switch {
	case !ok:
		return false // a folded line begins with what no name has
	case is(name, "Content-Length"):
		g.lengths++
		g.length, ok = number(value, 10)
		return ok && g.lengths == 1
	case is(name, "Transfer-Encoding"):
		g.codings++
		g.chunked = is(value, "chunked") // net/http knows no other
		return !g.old && g.codings == 1
	case is(name, "Upgrade"):
		g.upgrade = g.upgrade || changes(string(value))
	}
	return true
}

// changes reports whether a backend may be asked for a protocol: to h2c nobody
// changes here.
func changes(protocol string) bool { return !strings.EqualFold(protocol, "h2c") }

func is(text []byte, word string) bool {
	return len(text) == len(word) && strings.EqualFold(string(text), word)
}

// headerEnds goes on to the body, if there is one.
func (g *guard) headerEnds() bool {
	switch {
	case g.lengths > 0 && g.codings > 0:
		return false
	case g.chunked:
		g.at = atSize
	case g.length > 0:
		g.at, g.left = inBody, g.length
	default:
		g.requestEnds()
	}
	return true
}

// size takes the line before a chunk; what extends it is of no interest.
func (g *guard) size(line []byte) bool {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	var ok bool
	if g.left, ok = number(digits, 16); g.left == 0 {
		g.at = inTrailer
	} else {
		g.at = inChunk
	}
	return ok
}

// trailer takes a line after the last chunk.
func (g *guard) trailer(line []byte) bool {
	name, value, ok := split(line)
	return ok && httpguts.ValidHeaderFieldValue(string(value)) && // net/http looks at those of headers only
		!is(name, "Content-Length") && !is(name, "Transfer-Encoding") && !is(name, "Host")
}

// number reads digits, and nothing but them.
func number(text []byte, base uint64) (n uint64, ok bool) {
	for _, c := range text {
		d := uint64(strings.IndexByte("0123456789abcdef", c|0x20))
		if c < '0' || d >= base || n > math.MaxInt64/base-1 {
			return 0, false
		}
		n = n*base + d
	}
	return n, len(text) > 0
}
