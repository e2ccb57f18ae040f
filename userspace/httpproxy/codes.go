package httpproxy

import "sync/atomic"

// The codes of HTTP are from 100 to 599 (RFC 9110, section 15).
const (
	firstCode = 100
	hundred   = 100
)

// statusCounts count answers by their status. There is room for a hundred codes once one of
// them has come, so what counts neither waits nor, but for the first, allocates.
type statusCounts struct {
	hundreds [5]atomic.Pointer[[hundred]atomic.Uint64]
	other    atomic.Uint64 // none of HTTP
}

// add counts an answer.
func (c *statusCounts) add(status int) {
	at := status - firstCode
	if at < 0 || at >= len(c.hundreds)*hundred {
		c.other.Add(1)
		return
	}
	h := c.hundreds[at/hundred].Load()
	if h == nil {
		c.hundreds[at/hundred].CompareAndSwap(nil, new([hundred]atomic.Uint64))
		h = c.hundreds[at/hundred].Load()
	}
	h[at%hundred].Add(1)
}

// read returns the codes that have come, and how often; 0 is for all that are none of
// HTTP.
func (c *statusCounts) read() map[int]uint64 {
	all := map[int]uint64{}
	if n := c.other.Load(); n > 0 {
		all[0] = n
	}
	for i := range c.hundreds {
		h := c.hundreds[i].Load()
		if h == nil {
			continue
		}
		for j := range h {
			if n := h[j].Load(); n > 0 {
				all[firstCode+i*hundred+j] = n
			}
		}
	}
	return all
}
