package fuzz

import (
	"fmt"
	"slices"
	"strings"

	m "fairlead/testenv/refmodel"
)

// A difference is a packet after which target and model were not the same.
type difference struct {
	Seed    uint64
	Episode uint64
	Packet  int    // its number in the run, from 1; 0: an end state that no replay could show
	Frame   []byte // the packet
	Text    string // how the sides differ
	start   string // configuration at the start of the episode
	items   []item // shortest known way to the difference
}

// pin finds the first packet that differs and a short way to it, by replaying
// the items of an episode and looking at the state after each packet.
func (f *fuzzer) pin(episode uint64, items []item, text string) (*difference, error) {
	d := &difference{Seed: f.seed, Episode: episode, Text: text, items: items, start: f.world(episode).describe()}
	end, text, err := f.replay(episode, items)
	if err != nil || text == "" {
		return d, err // seen once only: told as it was seen
	}
	items = items[:end+1]
	d.Text, d.items, d.Frame = text, items, items[end].frame
	d.Packet = int(episode) * episodeLen
	for _, it := range items {
		if it.change == nil {
			d.Packet++
		}
	}
	if f.shrinks {
		d.items, d.Text, err = f.shrink(episode, items, text)
	}
	return d, err
}

// replay repeats items from a clean state up to the packet that differs.
func (f *fuzzer) replay(episode uint64, items []item) (end int, text string, err error) {
	w := f.world(episode)
	if err := f.target.reset(w); err != nil {
		return 0, "", fmt.Errorf("reset target: %w", err)
	}
	for i, it := range items {
		if it.change != nil {
			if err := f.apply(w, it.change); err != nil {
				return 0, "", err
			}
			continue
		}
		text, _, err := f.packet(w, it.frame, it.linear)
		if err == nil && text == "" {
			text, err = f.states(w)
		}
		if err != nil || text != "" {
			return i, text, err
		}
	}
	return 0, "", nil
}

// maxReplays bounds the work of shrink.
const maxReplays = 600

// shrink leaves items out, many at first, as long as the last packet differs.
func (f *fuzzer) shrink(episode uint64, items []item, text string) ([]item, string, error) {
	replays := 0
	for size := len(items) / 2; size > 0; size /= 2 {
		for at := len(items) - 1 - size; at >= 0 && replays < maxReplays; at -= size {
			replays++
			less := slices.Concat(items[:at], items[at+size:])
			end, t, err := f.replay(episode, less)
			if err != nil {
				return items, text, err
			}
			if t != "" {
				items, text = less[:end+1], t
				at = min(at, len(items)-1)
			}
		}
	}
	return items, text, nil
}

// String tells everything that is needed to repeat and to understand it.
func (d *difference) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, episode %d, packet %d\n%s", d.Seed, d.Episode, d.Packet, d.start)
	for _, it := range d.items {
		if it.change != nil {
			fmt.Fprintf(&b, "change: %s\n", it.change.text)
		} else {
			fmt.Fprintf(&b, "packet: %s, linear %d\n        %x\n", describe(it.frame), it.linear, it.frame)
		}
	}
	return b.String() + d.Text
}

// describe writes a configuration down.
func (w *world) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, control %+v\n%d buckets, now %d, clock %d, devices %v, vips %v\n", w.name, w.Control, len(w.table()), w.Now, w.Clock, w.Devices, w.VIPs)
	for row, s := range w.Services {
		fmt.Fprintf(&b, "service %d: %+v, turn %d, slots %v\n", row, s, w.Turns[row], w.Slots[row*8:][:8])
	}
	for row, be := range w.Backends {
		fmt.Fprintf(&b, "backend %d: %+v\n", row, be)
	}
	var lines []string
	for l, row := range w.Listeners {
		lines = append(lines, fmt.Sprintf("listener %v: %d\n", l, row))
	}
	for p, allow := range w.Clients {
		lines = append(lines, fmt.Sprintf("client %+v: %v\n", p, allow))
	}
	for p, zone := range w.Zones {
		lines = append(lines, fmt.Sprintf("zone of %v: %d\n", p, zone))
	}
	for at, addr := range w.Snat {
		if !addr.IsUnspecified() {
			lines = append(lines, fmt.Sprintf("snat %d: %v\n", at, addr))
		}
	}
	for addr, way := range w.fib {
		lines = append(lines, fmt.Sprintf("route to %v: %+v\n", addr, way))
	}
	slices.Sort(lines)
	return b.String() + strings.Join(lines, "")
}

// describe reads a frame for people.
func describe(frame []byte) string {
	t, l4, ok := m.Read(frame)
	if !ok {
		return fmt.Sprintf("%d bytes, not TCP or UDP", len(frame))
	}
	text := fmt.Sprintf("%d bytes, header of TCP or UDP at %d, [%v]:%d > [%v]:%d", len(frame), l4, t.Src, t.SPort, t.Dst, t.DPort)
	switch {
	case t.Proto == m.UDP:
		return fmt.Sprintf("%s udp, length %d", text, be.Uint16(frame[l4+4:]))
	case len(frame) < l4+20:
		return text + " tcp, cut"
	}
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK"} {
		if frame[l4+13]&(1<<i) != 0 {
			text += " " + name
		}
	}
	return fmt.Sprintf("%s tcp, header %d", text, frame[l4+12]>>4)
}
