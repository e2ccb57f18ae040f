package fuzz

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/pcap"
	m "fairlead/testenv/refmodel"
)

// longestFrame is more than a test run takes.
const longestFrame = 1 << 16

// A captured frame is one that somebody sent somewhere, often to do harm.
type captured struct {
	file string
	data []byte
}

// A harvest is what a directory of captures has, and why it has not more.
type harvest struct {
	frames      []captured
	files       int
	otherLinks  int // frames that are neither Ethernet nor IP
	short, long int // frames that a test run does not take
	broken      int // files that make no sense from some place on, or at all
}

// TestCaptures compares C and model on the frames of captures that crashed, or
// were to crash, other readers of packets: as they are, and sent to a service.
func TestCaptures(t *testing.T) {
	testenv.RequireRoot(t)
	h := gather(t, captureDir(t))
	t.Logf("%d frames of %d files; %d frames of other links, %d too short and %d too long left out; %d files end too early",
		len(h.frames), h.files, h.otherLinks, h.short, h.long, h.broken)
	if h.files < 500 || len(h.frames) < 100_000 {
		t.Error("these are fewer than there must be")
	}
	testenv.PinThread(t)
	target := newKernel(t, 0)
	for _, family := range families {
		f := newFuzzer(target, defaultSeed, family)
		f.shrinks = true
		f.compare(t, h)
		t.Logf("%d frames were compared in worlds of %s", f.packets, family.name)
		verdicts := f.seen[family].verdicts
		for v, n := range verdicts {
			t.Logf("%-18s %9d", m.Verdict(v), n)
		}
		for _, v := range []m.Verdict{m.PassMalformed, m.HoldFragment, m.ForwardRedirect, m.ForwardTX} {
			if verdicts[v] == 0 {
				t.Errorf("no frame reached %s in a world of %s", v, family.name)
			}
		}
	}
}

// compare sends all frames twice: as they are, and to a service.
func (f *fuzzer) compare(t *testing.T, h harvest) {
	t.Helper()
	episode := uint64(0)
	for part := range slices.Chunk(h.frames, episodeLen) {
		for _, aimed := range []bool{false, true} {
			d, err := f.captured(episode, part, aimed)
			if err != nil {
				t.Fatal(err)
			}
			if d != nil {
				t.Fatalf("frames from %s to %s: %v", part[0].file, part[len(part)-1].file, d)
			}
			f.packets += len(part)
			episode++
		}
	}
}

// captureDir is where the captures are. They are fetched if they are not there.
func captureDir(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../scripts/captures-fetch.sh")
	var problem strings.Builder
	cmd.Stderr = &problem
	dir, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, strings.TrimSpace(problem.String()))
	}
	return strings.TrimSpace(string(dir))
}

// gather reads all captures of a directory, in the order of their names.
func gather(t *testing.T, dir string) (h harvest) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		h.add(filepath.Base(path), file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// add takes the frames of one file.
func (h *harvest) add(name string, file []byte) {
	frames, err := pcap.Read(file)
	h.files++
	if err != nil {
		h.broken++
	}
	for _, frame := range frames {
		data := frame.Data
		switch {
		case frame.IsIP():
			data = behindEthernet(data)
		case frame.Link != pcap.Ethernet:
			h.otherLinks++
			continue
		}
		switch {
		case len(data) < ethLen:
			h.short++
		case len(data) >= longestFrame:
			h.long++
		default:
			h.frames = append(h.frames, captured{name, data})
		}
	}
}

// behindEthernet is an IP packet, of whatever version it says, in a frame.
func behindEthernet(packet []byte) []byte {
	frame := []byte{2, 0, 0, 9, 0, 1, 2, 0, 0, 9, 0, 5, 0x08, 0x00}
	if len(packet) > 0 && packet[0]>>4 == 6 {
		frame[12], frame[13] = 0x86, 0xdd
	}
	return append(frame, packet...)
}

// A replay is the frames of captures, among the changes of a generator.
type replay struct {
	*generator
	frames []captured
	aimed  bool // at services
	next   int
}

// captured is an episode whose packets are captured ones.
func (f *fuzzer) captured(episode uint64, part []captured, aimed bool) (*difference, error) {
	w := f.world(episode)
	g := newGenerator(rand.New(rand.NewPCG(f.seed, 2*episode+1)), w, false)
	return f.play(episode, w, &replay{generator: g, frames: part, aimed: aimed}, len(part))
}

// changes has a way to whom the next frame came from, too.
func (r *replay) changes() []change {
	cs := r.generator.changes()
	ip := r.find(r.frames[r.next].data)
	if ip == nil {
		return cs
	}
	src, _ := r.w.addrs(ip)
	if _, known := r.w.fib[src]; known {
		return cs
	}
	way := newRoute(r.r)
	return append(cs, change{
		part: partRoute, addr: src, text: fmt.Sprintf("route to %v: %+v", src, way),
		apply: func(w *world) { w.fib[src] = way },
	})
}

// packet is the next frame, whole.
func (r *replay) packet() (frame []byte, linear int) {
	frame = slices.Clone(r.frames[r.next].data)
	r.next++
	if r.aimed {
		r.retarget(frame)
	}
	return frame, len(frame)
}

// find steps over Ethernet and tags. The packet is nil if it is not of the
// world's family, or has no header.
func (r *replay) find(frame []byte) (ip []byte) {
	at := 12
	for at+2 <= len(frame) && slices.Contains([]uint16{0x8100, 0x88a8}, be.Uint16(frame[at:])) {
		at += 4
	}
	if at+2+r.w.header > len(frame) || be.Uint16(frame[at:]) != r.w.kind {
		return nil
	}
	return frame[at+2:]
}

// retarget sends a frame to a service: another destination address and, if it
// has ports, port. Checksums stay, so they are wrong by the difference.
func (r *replay) retarget(frame []byte) {
	ip := r.find(frame)
	if ip == nil {
		return
	}
	proto, ports := ip[r.w.proto], r.w.header
	if !r.w.is6() {
		ports = 4 * int(ip[0]&0x0f)
	}
	to := pick(r.r, r.w.offered)
	for try := 0; try < 20 && to.Proto != proto; try++ {
		to = pick(r.r, r.w.offered)
	}
	copy(ip[r.w.dst:], r.w.bytes(to.Addr))
	if port := ports + 2; (proto == m.TCP || proto == m.UDP) && port+2 <= len(ip) {
		be.PutUint16(ip[port:], to.Port)
	}
}
