package refmodel

import "testing"

// newShielded takes one SYN in a second, and makes the cookie 0x0a0b0c0d. Its
// first second begins at tick 10000.
func newShielded() *Model {
	m := newModel()
	m.Services[1].Flags |= FlagCookies
	m.Services[1].CookieAbove = 1
	m.Cookie = func(ip, tcp []byte) (uint32, bool) { return 0x0a0b0c0d, len(tcp) == 20 && ip[0] == 0x45 }
	m.IsCookie = func(_, tcp []byte) bool { return be.Uint32(tcp[8:]) == 5001 }
	return m
}

// synCookie answers syn, made by hand.
const synCookie = "02000000000102000000000208004500002c000040004006d486cb00710ac633640700509c400a0b0c0d000003e9601240003b3f0000020405b4"

func TestTooManySYNsAreAnsweredWithCookies(t *testing.T) {
	m := newShielded()
	again(t, m, ForwardRedirect)
	again(t, m, PassCookie)
	pass(t, m, syn, synCookie, AnswerCookie)
	m.Now += 249 // the last tick of the second
	again(t, m, AnswerCookie)
	m.Now++
	again(t, m, PassCookie)
	again(t, m, AnswerCookie)
	m.Over = map[Tuple]bool{tcpKey: true}
	again(t, m, PassCookie)
	clear(m.Over)
	m.Now-- // another CPU has not seen yet that the second is over
	again(t, m, AnswerCookie)
	if want := (Syns{Second: 41, Number: 4, Hot: true}); m.Syns[1] != want {
		t.Errorf("syns are %+v, want %+v", m.Syns[1], want)
	}
	m.Now += 251 // too many in the second before
	again(t, m, PassCookie)
	m.Now += 250 // one there
	again(t, m, ForwardRedirect)
	again(t, m, PassCookie)
	m.Now += 500 // none in the second before
	again(t, m, ForwardRedirect)
}

func TestCookiesNeedAProxy(t *testing.T) {
	for name, spoil := range map[string]func(m *Model){
		"address not local": func(m *Model) { m.Services[1].Flags &^= FlagLocal },
		"agent dead":        func(m *Model) { m.Clock = m.Control.Heartbeat + 10e9 + 1 },
		"no cookie":         func(m *Model) { m.Cookie = func(_, _ []byte) (uint32, bool) { return 0, false } },
		"without the flag":  func(m *Model) { m.Services[1].Flags &^= FlagCookies },
	} {
		t.Run(name, func(t *testing.T) {
			m := newShielded()
			m.Syns[1] = Syns{Second: 40, Number: 2}
			spoil(m)
			again(t, m, ForwardRedirect)
		})
	}
}

func TestStraySegments(t *testing.T) {
	for _, test := range []struct {
		name    string
		given   func(m *Model)
		flags   uint8
		verdict Verdict
	}{
		{"a cookie", func(*Model) {}, ACK, PassCookie},
		{"a cookie with FIN", func(*Model) {}, FIN | ACK, PassCookie},
		{"a reset", func(*Model) {}, RST | ACK, DropCookie},
		{"a SYN-ACK", func(*Model) {}, SYN | ACK, DropCookie},
		{"another number", func(m *Model) { m.IsCookie = func(_, _ []byte) bool { return false } }, ACK, DropCookie},
		{"a connection", func(m *Model) { m.Connections = map[Tuple]bool{tcpKey: true} }, FIN, PassNoFlow},
		{"a connection that is over", func(m *Model) { m.Over = map[Tuple]bool{tcpKey: true} }, FIN, PassNoFlow},
		{"a second later", func(m *Model) { m.Now += 250 }, RST, DropCookie},
		{"two seconds later", func(m *Model) { m.Now += 500 }, RST, PassNoFlow},
		{"the second before", func(m *Model) { m.Now -= 250 }, RST, DropCookie},
		{"draining", func(m *Model) { m.Control.Mode = ModeDraining }, RST, PassNoFlow},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newShielded()
			m.Syns[1] = Syns{Second: 40, Number: 2}
			test.given(m)
			send(t, m, data, test.flags, test.verdict)
		})
	}
}
