// Package pcap reads captures, of both kinds: pcap and pcapng.
//
// It is for captures that are broken on purpose, which other readers refuse: it
// returns every frame up to where the file makes no sense any more. It does not
// look into frames, and knows nothing of when they came.
package pcap

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Link types, which say what a frame begins with.
const (
	Ethernet = 1
	IPv4     = 228
	IPv6     = 229
)

// isRaw has the link types of which a frame is an IP packet of either version.
var isRaw = map[uint32]bool{12: true, 14: true, 101: true}

// A Frame is what was captured of a packet.
type Frame struct {
	Link uint32
	Data []byte
}

// IsIP says that the frame is an IP packet, of whatever version.
func (f Frame) IsIP() bool { return f.Link == IPv4 || f.Link == IPv6 || isRaw[f.Link] }

// ErrFormat says that a file is neither pcap nor pcapng.
var ErrFormat = errors.New("neither pcap nor pcapng")

var errCut = errors.New("makes no sense")

// Read returns the frames of a capture, as parts of file, in their order. With
// an error it returns those before the place that is wrong.
func Read(file []byte) ([]Frame, error) {
	if len(file) >= 4 && binary.LittleEndian.Uint32(file) == sectionHeader {
		return readBlocks(file)
	}
	const header = 24
	if len(file) < header {
		return nil, ErrFormat
	}
	order, record := orderOf(file)
	if record == 0 {
		return nil, ErrFormat
	}
	link := order.Uint32(file[20:]) & 0xffff // the rest is about checksums of Ethernet
	var frames []Frame
	for rest := file[header:]; len(rest) > 0; {
		if len(rest) < record {
			return frames, errCut
		}
		n := uint64(order.Uint32(rest[8:]))
		rest = rest[record:]
		if n > uint64(len(rest)) {
			return frames, errCut
		}
		frames = append(frames, Frame{link, rest[:n:n]})
		rest = rest[n:]
	}
	return frames, nil
}

// orderOf is the byte order of a pcap file and how long a packet's header is: 0
// if it is none.
func orderOf(file []byte) (order binary.ByteOrder, record int) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(file) {
		case 0xa1b2c3d4, 0xa1b23c4d: // time in microseconds, or nanoseconds
			return order, 16
		case 0xa1b2cd34: // of some old distributions: with an interface behind it
			return order, 24
		}
	}
	return nil, 0
}

// Types of pcapng blocks.
const (
	sectionHeader   = 0x0a0d0d0a
	interfaceHeader = 1
	oldPacket       = 2
	simplePacket    = 3
	packet          = 6
)

// A section is what the blocks of a pcapng file are read by.
type section struct {
	order  binary.ByteOrder
	links  []uint32 // by interface
	frames []Frame
}

// readBlocks reads a pcapng file. A block is its type, its length, a body and
// its length again.
func readBlocks(file []byte) ([]Frame, error) {
	s := section{order: binary.LittleEndian}
	for len(file) > 0 {
		if len(file) < 16 {
			return s.frames, errCut
		}
		if s.order.Uint32(file) == sectionHeader { // the same in either order
			s.begin(file)
		}
		n := uint64(s.order.Uint32(file[4:]))
		if n < 12 || n%4 != 0 || n > uint64(len(file)) {
			return s.frames, fmt.Errorf("block of %d bytes: %w", n, errCut)
		}
		if err := s.block(s.order.Uint32(file), file[8:n-4]); err != nil {
			return s.frames, err
		}
		file = file[n:]
	}
	return s.frames, nil
}

// begin takes note of the byte order, which each section chooses.
func (s *section) begin(block []byte) {
	s.order, s.links = binary.LittleEndian, nil
	if binary.BigEndian.Uint32(block[8:]) == 0x1a2b3c4d {
		s.order = binary.BigEndian
	}
}

// block reads the body of one block.
func (s *section) block(kind uint32, body []byte) error {
	const header = 20 // of a packet: interface, time, and its two lengths
	switch {
	case kind == interfaceHeader && len(body) >= 2:
		s.links = append(s.links, uint32(s.order.Uint16(body)))
	case kind == packet && len(body) >= header:
		return s.packet(s.order.Uint32(body), s.order.Uint32(body[12:]), body[header:])
	case kind == oldPacket && len(body) >= header:
		return s.packet(uint32(s.order.Uint16(body)), s.order.Uint32(body[12:]), body[header:])
	case kind == simplePacket && len(body) >= 4: // as long as it was, or as the block
		return s.packet(0, min(s.order.Uint32(body), uint32(len(body)-4)), body[4:])
	}
	return nil
}

// packet adds the first n bytes of data, which came by an interface.
func (s *section) packet(iface, n uint32, data []byte) error {
	if uint64(iface) >= uint64(len(s.links)) {
		return fmt.Errorf("packet of interface %d: %w", iface, errCut)
	}
	if uint64(n) > uint64(len(data)) {
		return errCut
	}
	s.frames = append(s.frames, Frame{s.links[iface], data[:n:n]})
	return nil
}
