package lbtest

import (
	"net/netip"

	"fairlead/loader"
	"fairlead/testenv"
)

const cookies = uint8(loader.LBServiceFlagSERVICE_COOKIES)

// second is the one in which the tables' packets come, in its 100th tick.
const second = now / hz

// shielded is a web service that takes one SYN a second.
func shielded(w *world) {
	w.tb.Helper()
	w.must(w.SetCookies(true))
	flagged(cookies, func(s *loader.Service) { s.CookieAbove = 1 })(w)
}

// counts says how many SYNs there were, in a second that is so far.
func counts(offset int, n uint32) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.put(loader.LBMapSyns, uint32(1), loader.LBSyns{Second: uint32(int(second) + offset), Count: n})
	}
}

// remembered gives the host a connection of the client's, which may be over.
func remembered(over uint32) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.put(lbMapConnections, flowKey(tcp, client, web), over)
	}
}

// withMSS is a SYN of a client that takes 1000 bytes.
func withMSS() []byte {
	return testenv.TCPFrame(testenv.FrameSpec{
		Src: client, Dst: web, Flags: syn, Seq: 0x01020304, Options: []byte{2, 4, 1000 >> 8, 1000 & 0xff},
	})
}

// cookieFor is the answer to a SYN of the client: a SYN-ACK that tells an MSS.
func cookieFor(hello []byte, mss uint16) []byte {
	header := hello[34 : 34+4*int(hello[46]>>4)]
	return testenv.TCPFrame(testenv.FrameSpec{
		Src: web, Dst: client, Flags: syn | ack, Seq: Cookie(hello[14:], header), Ack: 0x01020305,
		Fragment: 0x4000, Window: 16384, Options: []byte{2, 4, byte(mss >> 8), byte(mss)},
	})
}

// brought is what the client sends to bring back a cookie.
func brought(flags uint8) []byte {
	return numbered(client, web, flags, 0x01020305, Cookie(withMSS()[14:], withMSS()[34:])+1)
}

// floodRows are SYNs of a service with cookies: rule 3, the end of step 8.
func floodRows() []row {
	hello := withMSS()
	made := row{want: loader.LBVerdictFORWARD_REDIRECT, frame: segment(client, web, syn), out: toBackend(back1, syn), egress: uplink, counts: made("2", 48)}
	passed := row{want: loader.LBVerdictPASS_COOKIE, frame: hello}
	answer := row{want: loader.LBVerdictANSWER_COOKIE, frame: hello, out: cookieFor(hello, mtu-40)}
	with := func(frame []byte) row { return row{want: answer.want, frame: frame, out: cookieFor(frame, mtu-40)} }
	flood := then(shielded, counts(0, 2))
	mss := func(n uint16) row { return row{want: answer.want, frame: hello, out: cookieFor(hello, n)} }
	return []row{
		made.as("the first SYN of a second", shielded),
		made.as("as many SYNs as the service takes", then(shielded, counts(0, 0))),
		passed.as("one more is for the stack to make a cookie", then(shielded, counts(0, 1))),
		answer.as("the others are answered with a cookie", flood),
		with(segment(client, web, syn)).as("a SYN with payload", flood),
		with(numbered(client, web, syn, 0x01020304, 0)).as("a SYN without options", flood),
		passed.as("the first SYN after a second with too many", then(shielded, counts(-1, 2))),
		passed.as("too many in a row", then(shielded, counts(-1, hot|2))),
		answer.as("the second SYN after a second with too many", then(shielded, counts(0, hot|1))),
		made.as("too many some time ago", then(shielded, counts(-2, 2))),
		made.as("few after too many", then(shielded, counts(-1, hot|1))),
		answer.as("a clock that is behind", then(shielded, counts(1, hot|1))),
		made.as("a clock that is far behind", then(shielded, counts(2, hot|1))),
		{name: "a client whose connection the host has", given: then(flood, remembered(0)), want: loader.LBVerdictPASS_STANDBY, frame: hello},
		passed.as("a client whose connection the host remembers", then(flood, remembered(1))),
		mss(536).as("the way back is narrow", then(flood, narrowed(client, 400))),
		mss(8960).as("the way back is wide", then(flood, narrowed(client, 9000))),
		mss(1460).as("the way back is not known", then(flood, func(w *world) { w.route(client, RouteNoNeighbour, 0) })),
		made.as("the kernel makes no cookies", then(flood, func(w *world) { w.must(w.SetCookies(false)) })),
		made.as("nobody would take who brings a cookie back", then(flood, func(w *world) { w.must(w.SetMonotonic(10e9 + 1)) })),
		made.as("a flood without cookies", then(flood, flagged(0, unchanged))),
		{name: "a flood while draining", given: then(flood, draining), want: loader.LBVerdictPASS_DRAINING, frame: hello},
		sentAgain().as("a SYN that is sent again in a flood", then(opened, flood)),
		{name: "a client that may not enter", given: then(shielded, counts(0, 2), flagged(cookies|listed, unchanged)),
			want: loader.LBVerdictDROP_DENIED, frame: hello},
	}
}

// hot is SYNS_HOT.
const hot = 1 << 31

// broughtRows are segments without a flow in a flood: rule 3, step 3.
func broughtRows() []row {
	flood := then(shielded, counts(0, 2))
	good := row{want: loader.LBVerdictPASS_COOKIE, frame: brought(ack)}
	bad := row{want: loader.LBVerdictDROP_COOKIE, frame: segment(client, web, ack)}
	passed := row{want: loader.LBVerdictPASS_NO_FLOW, frame: bad.frame}
	data := func(at uint32, want loader.Verdict) row {
		return row{want: want, frame: testenv.TCPFrame(testenv.FrameSpec{
			Src: client, Dst: web, Flags: ack, Seq: 0x01020305 + at, Ack: Cookie(withMSS()[14:], withMSS()[34:]) + 1, Payload: []byte("fairlead"),
		})}
	}
	elsewhere := netip.AddrPortFrom(client.Addr(), client.Port()+1)
	return []row{
		good.as("a client brings a cookie back", flood),
		good.as("a client brings a cookie back in the next second", then(shielded, counts(-1, 2))),
		good.as("another CPU is in the next second already", then(shielded, counts(1, hot|1))),
		data(0, loader.LBVerdictPASS_COOKIE).as("a client's first data brings its cookie, too", flood),
		data(8, loader.LBVerdictDROP_COOKIE).as("more of its data comes before there is a connection", flood),
		data(8, loader.LBVerdictPASS_NO_FLOW).as("more of its data comes to the connection", then(flood, remembered(0))),
		bad.as("a number that is no cookie", flood),
		{name: "another client's cookie", given: flood, want: loader.LBVerdictDROP_COOKIE,
			frame: numbered(elsewhere, web, ack, 0x01020305, Cookie(withMSS()[14:], withMSS()[34:])+1)},
		{name: "a reset with a cookie", given: flood, want: loader.LBVerdictDROP_COOKIE, frame: brought(rst | ack)},
		{name: "a SYN-ACK with a cookie", given: flood, want: loader.LBVerdictDROP_COOKIE, frame: brought(syn | ack)},
		{name: "a cookie without ACK", given: flood, want: loader.LBVerdictDROP_COOKIE, frame: brought(fin)},
		passed.as("a connection of the host's in a flood", then(flood, remembered(0))),
		passed.as("a connection of the host's that is over", then(flood, remembered(1))),
		passed.as("no flood", then(shielded, counts(0, 1))),
		passed.as("a flood two seconds ago", then(shielded, counts(-2, 2))),
		passed.as("a flood just before draining", then(flood, draining)),
		passed.as("a flood of an agent that is no more", then(flood, func(w *world) { w.must(w.SetMonotonic(10e9 + 1)) })),
		{name: "a flood of an address that is not local", want: loader.LBVerdictDROP_NO_FLOW, frame: bad.frame,
			given: then(flood, flagged(cookies, func(s *loader.Service) { s.Flags, s.CookieAbove = cookies, 1 }))},
		forwarded(ack).as("a flow in a flood goes on", then(answered, flood)),
	}
}
