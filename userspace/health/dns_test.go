package health

import (
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"fairlead/userspace/model"
)

// answerTo returns the answer to a query after change has had its way with it.
func answerTo(t *testing.T, query []byte, change func(*dnsmessage.Message)) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		t.Errorf("bad query: %v", err)
	}
	m.Response = true
	change(&m)
	packed, err := m.Pack()
	if err != nil {
		t.Errorf("pack answer: %v", err)
	}
	return packed
}

func TestProbeDNS(t *testing.T) {
	for _, tt := range []struct {
		name, query string
		change      func(*dnsmessage.Message)
		want        string
	}{
		{"an answer", "example.com", func(*dnsmessage.Message) {}, ""},
		{"the root by default", "", func(m *dnsmessage.Message) {
			if q := m.Questions[0]; q.Name.String() != "." || q.Type != dnsmessage.TypeA {
				m.RCode = dnsmessage.RCodeFormatError
			}
		}, ""},
		{"no such name", "example.com.", func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError }, ""},
		{"a server that fails", "example.com", func(m *dnsmessage.Message) {
			m.RCode = dnsmessage.RCodeServerFailure
		}, "answered with an error: ServerFailure"},
		{"a server that refuses, without the question", "example.com", func(m *dnsmessage.Message) {
			m.RCode, m.Questions = dnsmessage.RCodeRefused, nil
		}, "answered with an error: Refused"},
		{"another case", "example.com", func(m *dnsmessage.Message) {
			m.Questions[0].Name = dnsmessage.MustNewName("EXAMPLE.com.")
		}, ""},
		{"a bad name", "a..b", func(*dnsmessage.Message) {}, "make query"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := serveUDP(t, func(b []byte) [][]byte { return [][]byte{answerTo(t, b, tt.change)} })
			expect(t, run(t, address, model.Check{Type: model.CheckDNS, Query: tt.query, Timeout: long}), tt.want)
		})
	}
}

// TestProbeDNSPassesOver sends what does not answer the query, alone and ahead
// of what does.
func TestProbeDNSPassesOver(t *testing.T) {
	changed := func(change func(*dnsmessage.Message)) func([]byte) []byte {
		return func(query []byte) []byte { return answerTo(t, query, change) }
	}
	bytes := func(s string) func([]byte) []byte { return func([]byte) []byte { return []byte(s) } }
	for _, tt := range []struct {
		name   string
		answer func(query []byte) []byte
	}{
		{"another id", changed(func(m *dnsmessage.Message) { m.ID++ })},
		{"an error with another id", changed(func(m *dnsmessage.Message) { m.ID, m.RCode = m.ID+1, dnsmessage.RCodeRefused })},
		{"a query", changed(func(m *dnsmessage.Message) { m.Response = false })},
		{"another name", changed(func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("example.org.") })},
		{"another type", changed(func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAAAA })},
		{"no question", changed(func(m *dnsmessage.Message) { m.Questions = nil })},
		{"nothing", bytes("")},
		{"garbage", bytes("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check := model.Check{Type: model.CheckDNS, Query: "example.com", Timeout: short}
			alone := serveUDP(t, func(b []byte) [][]byte { return [][]byte{tt.answer(b)} })
			expect(t, run(t, alone, check), "not done within 100ms")

			ahead := serveUDP(t, func(b []byte) [][]byte {
				return [][]byte{tt.answer(b), answerTo(t, b, func(*dnsmessage.Message) {})}
			})
			check.Timeout = long
			expect(t, run(t, ahead, check), "")
		})
	}
}
