package top

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"fairlead/loader"
	"fairlead/userspace/view"
)

// A column is one beside the names.
type column struct {
	title string
	width int
	rank  int // the higher, the sooner it is left out where there is no room
	cell  func(line) string
}

var columns = []column{
	{"STATE", 8, 0, func(l line) string { return l.state }},
	{"FLOWS", 8, 1, func(l line) string {
		if !l.known {
			return "-"
		}
		return human(float64(l.row.Live))
	}},
	{"NEW/S", 7, 3, rateCell(0)},
	{"REQ/S", 7, 7, rateCell(1)},
	{"PKT/S IN", 10, 2, rateCell(2)},
	{"B/S IN", 8, 4, rateCell(3)},
	{"PKT/S OUT", 11, 5, rateCell(4)},
	{"B/S OUT", 9, 6, rateCell(5)},
	{"P50", 7, 8, latencyCell(func(l *view.Latency) float64 { return l.Median })},
	{"P95", 7, 9, latencyCell(func(l *view.Latency) float64 { return l.P95 })},
	{"P99", 7, 10, latencyCell(func(l *view.Latency) float64 { return l.P99 })},
}

// rateColumns are those of rates, in their order.
var rateColumns = []struct {
	of  func(*Rates) float64
	who counts
}{
	{func(r *Rates) float64 { return r.Flows }, countsFlows},
	{func(r *Rates) float64 { return r.Requests }, countsRequests},
	{func(r *Rates) float64 { return r.ForwardPackets }, countsPackets},
	{func(r *Rates) float64 { return r.ForwardBytes }, countsBytes},
	{func(r *Rates) float64 { return r.ReplyPackets }, countsPackets},
	{func(r *Rates) float64 { return r.ReplyBytes }, countsBytes},
}

// leastName is how wide the names' column is at least, beside any other one.
const leastName = 16

// rateCell shows the i-th of rateColumns, where somebody counts that.
func rateCell(i int) func(line) string {
	return func(l line) string {
		if l.row.Rates == nil || l.row.counts&rateColumns[i].who == 0 {
			return "-"
		}
		return human(rateColumns[i].of(l.row.Rates))
	}
}

func latencyCell(of func(*view.Latency) float64) func(line) string {
	return func(l line) string {
		if l.latency == nil {
			return "-"
		}
		return humanTime(of(l.latency))
	}
}

// A line is a service or a backend on the screen.
type line struct {
	name, state, why string
	row              Row
	known            bool // row.Live
	latency          *view.Latency
}

// lines returns one for the sum and one for each service and backend.
func (s *Sample) lines() []line {
	known := s.known()
	all := []line{{name: "all", row: s.Total, known: known}}
	for i := range s.Services {
		v := &s.Services[i]
		all = append(all, line{clean(v.Name), rung(v), clean(v.Reason), v.Row, known, nil})
		for j := range v.Backends {
			b := &v.Backends[j]
			all = append(all, line{"  " + clean(b.name()), b.State, clean(b.why(s.Time.Location())), b.Row, known, b.Latency})
		}
	}
	return all
}

// known reports whether anybody has told how many flows there are.
func (s *Sample) known() bool { return s.Switch != "" || len(s.Services) > 0 }

// rung returns what serves a service, in seven letters at most.
func rung(s *Service) string {
	if s.Rung == "" {
		return "-"
	}
	return strings.TrimPrefix(string(s.Rung), strings.TrimSuffix(string(view.RungNative), "native"))
}

// without says why the kernel's rates are not there.
func (s *Sample) without() string {
	if len(s.Services) > 0 {
		return "rates of the agent's proxies alone: " + clean(s.Reason)
	}
	return "no rates: " + clean(s.Reason)
}

// A screen is what is drawn, and how.
type screen struct {
	sample        *Sample
	order         order
	interval      time.Duration
	width, height int
	first         int // the first line below the titles that is shown
}

// headLines is how many lines stand above those that scroll, footLines below.
const (
	headLines = 4
	footLines = 1
)

// room is how many lines there are between head and foot.
func (s *screen) room() int { return max(1, s.height-headLines-footLines) }

// draw returns the screen's lines, as wide and as many as fit. The fourth has the
// titles.
func (s *screen) draw() []string {
	all := s.sample.lines()
	s.first = max(0, min(s.first, len(all)-s.room()))
	shown := all[s.first:min(len(all), s.first+s.room())]
	picked, name := s.layout()
	text := append(s.head(), s.titles(picked, name))
	for _, l := range shown {
		text = append(text, l.draw(picked, name, s.width))
	}
	for len(text) < s.height-footLines {
		text = append(text, "")
	}
	text = append(text, s.foot(len(all), len(shown)))
	for i := range text {
		text[i] = strings.TrimRight(cut(text[i], s.width), " ")
	}
	return text[:min(len(text), s.height)]
}

func (s *screen) head() []string {
	v := s.sample
	how := fmt.Sprintf("fairlead top  %s  every %s  by %s", v.Time.Format(time.TimeOnly), s.interval, s.order.name)
	if v.Switch == "" {
		return []string{how, v.without(), clean(v.Health)}
	}
	text := "packets/s"
	for _, k := range []loader.Kind{loader.KindForward, loader.KindDrop, loader.KindPass, loader.KindAnswer, loader.KindHold} {
		if v.Packets == nil {
			text += fmt.Sprintf("  %s -", k)
		} else {
			text += fmt.Sprintf("  %s %s", k, human(v.Packets[k]))
		}
	}
	return []string{how, fmt.Sprintf("xdp %s, %d of %d flows, %s", v.Switch, v.Held, v.Room, clean(v.Health)), text}
}

// layout chooses the columns that there is room for, and how wide the names are.
func (s *screen) layout() (picked []column, name int) {
	for most := len(columns); ; most-- {
		picked, name = nil, s.width
		for _, c := range columns {
			if c.rank < most {
				picked, name = append(picked, c), name-c.width
			}
		}
		if name >= leastName || most == 0 {
			return picked, min(name, 40)
		}
	}
}

func (s *screen) titles(picked []column, name int) string {
	text := pad("SERVICE", name)
	for _, c := range picked {
		text += fmt.Sprintf("%*s", c.width, c.title)
	}
	return pad(text, s.width)
}

func (s *screen) foot(all, shown int) string {
	text := "sort: n)ame p)ackets b)ytes ne(w) f)lows  q)uit"
	if shown < all {
		text = fmt.Sprintf("%d-%d of %d, j k scroll  ", s.first+1, s.first+shown, all) + text
	}
	return text
}

// draw returns the line, with what is wrong behind the columns if there is room.
func (l line) draw(picked []column, name, width int) string {
	text := pad(cut(l.name, name), name)
	for _, c := range picked {
		text += fmt.Sprintf("%*s", c.width, c.cell(l))
	}
	if l.why != "" && len(picked) == len(columns) && width-utf8.RuneCountInString(text) > 10 {
		text += "  " + l.why
	}
	return text
}

// human returns a number in at most five letters, such as 12.3k.
func human(n float64) string {
	unit := -1
	for most := 9999.5; n >= most && unit < 3; most = 999.5 {
		n, unit = n/1000, unit+1
	}
	text := fmt.Sprintf("%.0f", n)
	if n < 99.95 && (unit >= 0 || n > 0 && n < 9.95) {
		text = strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0")
	}
	if unit >= 0 {
		text += string("kMGT"[unit])
	}
	return text
}

// humanTime returns a number of seconds in at most five letters, such as 12.3ms.
func humanTime(seconds float64) string {
	n, unit := seconds*1e6, 0
	for ; n >= 999.5 && unit < 2; unit++ {
		n /= 1000
	}
	text := fmt.Sprintf("%.0f", n)
	if n < 9.95 && unit > 0 {
		text = strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0")
	}
	return text + []string{"µs", "ms", "s"}[unit]
}

// clean makes a text of others fit for a line of a terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// cut shortens a text to n letters, pad makes it that long.
func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	if n < 1 {
		return ""
	}
	return string([]rune(text)[:n-1]) + "…"
}

func pad(text string, n int) string {
	return text + strings.Repeat(" ", max(0, n-utf8.RuneCountInString(text)))
}
