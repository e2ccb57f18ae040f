package pcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// capture is a pcap file with these frames.
func capture(order binary.AppendByteOrder, magic uint32, extra int, frames ...string) []byte {
	file := order.AppendUint32(nil, magic)
	file = append(file, make([]byte, 16)...)
	file = order.AppendUint32(file, 0x14000000|Ethernet) // with a note on Ethernet's checksum
	for _, f := range frames {
		file = append(file, make([]byte, 8)...)
		file = order.AppendUint32(file, uint32(len(f)))
		file = order.AppendUint32(file, 1500)
		file = append(file, make([]byte, extra)...)
		file = append(file, f...)
	}
	return file
}

// block is one of a pcapng file.
func block(order binary.AppendByteOrder, kind uint32, body ...any) []byte {
	var b []byte
	for _, part := range body {
		switch part := part.(type) {
		case uint16:
			b = order.AppendUint16(b, part)
		case int:
			b = order.AppendUint32(b, uint32(part))
		case string:
			b = append(append(b, part...), make([]byte, -len(part)&3)...)
		}
	}
	n := uint32(len(b) + 12)
	out := order.AppendUint32(order.AppendUint32(nil, kind), n)
	return order.AppendUint32(append(out, b...), n)
}

// sections is a pcapng file of two sections, with interfaces of their own.
func sections(order, next binary.AppendByteOrder) []byte {
	return bytes.Join([][]byte{
		block(order, sectionHeader, 0x1a2b3c4d, uint16(1), uint16(0), -1, -1),
		block(order, interfaceHeader, uint16(Ethernet), uint16(0), 0),
		block(order, interfaceHeader, uint16(IPv4), uint16(0), 0),
		block(order, 5, 0, 0, 0), // statistics
		block(order, packet, 0, 0, 0, 5, 5, "hello"),
		block(order, packet, 1, 0, 0, 2, 900, "IP", "and options"),
		block(order, simplePacket, 5, "world"),
		block(order, simplePacket, 900, "cut!"),
		block(next, sectionHeader, 0x1a2b3c4d, uint16(1), uint16(0), -1, -1),
		block(next, interfaceHeader, uint16(101), uint16(0), 0),
		block(next, oldPacket, uint16(0), uint16(7), 0, 0, 4, 4, "long"),
	}, nil)
}

func TestFramesAreRead(t *testing.T) {
	little, big := binary.LittleEndian, binary.BigEndian
	plain := []Frame{{Ethernet, []byte("hello")}, {Ethernet, []byte{}}, {Ethernet, []byte("world")}}
	blocks := []Frame{
		{Ethernet, []byte("hello")}, {IPv4, []byte("IP")}, {Ethernet, []byte("world")}, {Ethernet, []byte("cut!")}, {101, []byte("long")},
	}
	for _, test := range []struct {
		name string
		file []byte
		want []Frame
	}{
		{"little endian", capture(little, 0xa1b2c3d4, 0, "hello", "", "world"), plain},
		{"big endian", capture(big, 0xa1b2c3d4, 0, "hello", "", "world"), plain},
		{"nanoseconds", capture(big, 0xa1b23c4d, 0, "hello", "", "world"), plain},
		{"longer headers", capture(little, 0xa1b2cd34, 8, "hello", "", "world"), plain},
		{"no frames", capture(little, 0xa1b2c3d4, 0), nil},
		{"pcapng", sections(little, little), blocks},
		{"pcapng of two orders", sections(big, little), blocks},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Read(test.file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("frames (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatIsWholeIsRead(t *testing.T) {
	little := binary.LittleEndian
	file := capture(little, 0xa1b2c3d4, 0, "hello", "world")
	ng := sections(little, little)
	for _, test := range []struct {
		name string
		file []byte
		want int // frames
	}{
		{"cut in a frame", file[:len(file)-1], 1},
		{"cut in the header of a frame", file[:24+16+5+15], 1},
		{"a frame longer than its file", bytes.Replace(file, []byte{5, 0, 0, 0}, []byte{0xff, 0xff, 0xff, 0xff}, 1), 0},
		{"cut in a block", ng[:len(ng)-1], 4},
		{"cut in the header of a block", append(ng, 1, 2, 3), 5},
		{"a block of nothing", append(ng, block(little, packet)[:4:4]...), 5},
		{"a frame of no interface", append(ng, block(little, packet, 1, 0, 0, 2, 2, "no")...), 5},
		{"a frame longer than its block", append(ng, block(little, packet, 0, 0, 0, 9, 9, "no")...), 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Read(test.file)
			if err == nil || len(got) != test.want {
				t.Errorf("%d frames, %v, want %d and an error", len(got), err, test.want)
			}
		})
	}
	for _, file := range []string{"", "\n\r\r\n", "hello, this is no capture at all"} {
		if got, err := Read([]byte(file)); len(got) != 0 || err == nil {
			t.Errorf("%q: %d frames, %v", file, len(got), err)
		}
	}
	if _, err := Read(make([]byte, 100)); !errors.Is(err, ErrFormat) {
		t.Errorf("zeros: %v, want %v", err, ErrFormat)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(capture(binary.LittleEndian, 0xa1b2c3d4, 0, "hello"))
	f.Add(sections(binary.LittleEndian, binary.BigEndian))
	f.Fuzz(func(t *testing.T, file []byte) {
		frames, _ := Read(file)
		sum := 0
		for _, frame := range frames {
			sum += len(frame.Data)
		}
		if sum > len(file) {
			t.Errorf("%d bytes of frames in a file of %d", sum, len(file))
		}
	})
}
