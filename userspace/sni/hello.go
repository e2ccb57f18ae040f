package sni

import (
	"encoding/binary"
	"errors"
	"strings"
)

// What keeps a name from being read.
var (
	// ErrNotTLS says that a client's first bytes are no ClientHello.
	ErrNotTLS = errors.New("no ClientHello")
	// ErrLong says that a ClientHello takes more room than there is for it.
	ErrLong = errors.New("ClientHello is too long")

	errShort = errors.New("ClientHello is not there as a whole")
)

// Of TLS (RFC 8446, sections 4 and 5.1; RFC 6066, section 3).
const (
	maxRecord     = 1 << 14
	handshake     = 22 // type of a record
	clientHello   = 1  // type of a message in it
	serverNameExt = 0
	hostName      = 0
)

// nameOf returns the name that a ClientHello at the beginning of b asks for, in
// lower case and without a dot at the end; "" if it asks for none. The error is
// errShort if more of it must come, or one of the others.
func nameOf(b []byte) (string, error) {
	message, err := messageOf(b)
	if err != nil {
		return "", err
	}
	c := cursor{message, true}
	c.take(2 + 32) // version, random
	c.vector(1)    // session
	c.vector(2)    // cipher suites
	c.vector(1)    // compression
	if c.ok && len(c.rest) == 0 {
		return "", nil // without extensions, as before TLS 1.2
	}
	extensions := cursor{c.vector(2), true}
	name := ""
	for extensions.ok && len(extensions.rest) > 0 {
		kind := extensions.number(2)
		body := extensions.vector(2)
		if kind == serverNameExt && extensions.ok {
			if name, err = hostOf(body); err != nil {
				return "", err
			}
		}
	}
	if !c.ok || !extensions.ok || len(c.rest) > 0 {
		return "", ErrNotTLS
	}
	return name, nil
}

// hostOf returns the host of a server_name extension.
func hostOf(body []byte) (string, error) {
	c := cursor{body, true}
	list := cursor{c.vector(2), true}
	kind, name := list.number(1), list.vector(2)
	if !c.ok || !list.ok || kind != hostName || len(name) == 0 {
		return "", ErrNotTLS
	}
	return strings.ToLower(strings.TrimSuffix(string(name), ".")), nil
}

// messageOf returns the body of the ClientHello that the records in b hold, which
// may be cut up into several.
func messageOf(b []byte) ([]byte, error) {
	var message []byte
	for {
		if len(b) > 0 && b[0] != handshake || len(b) > 1 && b[1] != 3 {
			return nil, ErrNotTLS
		}
		if len(b) < 5 {
			return nil, errShort
		}
		size := int(binary.BigEndian.Uint16(b[3:]))
		if size == 0 || size > maxRecord {
			return nil, ErrNotTLS
		}
		part := b[5:min(len(b), 5+size)]
		message = append(message, part...)
		if len(message) > 0 && message[0] != clientHello {
			return nil, ErrNotTLS
		}
		if len(message) >= 4 {
			length := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
			if length > MaxHello {
				return nil, ErrLong
			}
			if len(message) >= 4+length {
				return message[4 : 4+length], nil
			}
		}
		if len(part) < size {
			return nil, errShort
		}
		b = b[5+size:]
	}
}

// A cursor moves over bytes until it has met something that is not there.
type cursor struct {
	rest []byte
	ok   bool
}

func (c *cursor) take(n int) []byte {
	if !c.ok || n > len(c.rest) {
		c.ok = false
		return nil
	}
	taken := c.rest[:n]
	c.rest = c.rest[n:]
	return taken
}

// number returns one of n bytes.
func (c *cursor) number(n int) (v int) {
	for _, b := range c.take(n) {
		v = v<<8 | int(b)
	}
	return v
}

// vector returns what follows a length of n bytes.
func (c *cursor) vector(n int) []byte { return c.take(c.number(n)) }
