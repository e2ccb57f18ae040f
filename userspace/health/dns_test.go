package health

import (
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"fairlead/userspace/model"
)

// answerer answers DNS queries after change has had its way with the answer.
func answerer(t *testing.T, change func(*dnsmessage.Message)) (address string) {
	t.Helper()
	return serveUDP(t, func(b []byte) [][]byte {
		var m dnsmessage.Message
		if err := m.Unpack(b); err != nil {
			t.Errorf("bad query: %v", err)
			return nil
		}
		m.Response = true
		change(&m)
		packed, err := m.Pack()
		if err != nil {
			t.Errorf("pack answer: %v", err)
		}
		return [][]byte{packed}
	})
}

func TestProbeDNS(t *testing.T) {
	for _, tt := range []struct {
		name    string
		query   string
		change  func(*dnsmessage.Message)
		timeout time.Duration
		want    string
	}{
		{"an answer", "example.com", func(*dnsmessage.Message) {}, long, ""},
		{"the root by default", "", func(m *dnsmessage.Message) {
			if q := m.Questions[0]; q.Name.String() != "." || q.Type != dnsmessage.TypeA {
				m.RCode = dnsmessage.RCodeFormatError
			}
		}, long, ""},
		{"no such name", "example.com.", func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError }, long, ""},
		{"a server that fails", "example.com", func(m *dnsmessage.Message) {
			m.RCode = dnsmessage.RCodeServerFailure
		}, long, "answered with an error: ServerFailure"},
		{"a server that refuses, without the question", "example.com", func(m *dnsmessage.Message) {
			m.RCode, m.Questions = dnsmessage.RCodeRefused, nil
		}, long, "answered with an error: Refused"},
		{"another id", "example.com", func(m *dnsmessage.Message) { m.ID++ }, short, "another query"},
		{"a query for an answer", "example.com", func(m *dnsmessage.Message) { m.Response = false }, short, "another query"},
		{"another question", "example.com", func(m *dnsmessage.Message) {
			m.Questions[0].Name = dnsmessage.MustNewName("example.org.")
		}, short, "example.org."},
		{"another type", "example.com", func(m *dnsmessage.Message) {
			m.Questions[0].Type = dnsmessage.TypeAAAA
		}, short, "to the question"},
		{"no question", "example.com", func(m *dnsmessage.Message) { m.Questions = nil }, short, "parse answer"},
		{"another case", "example.com", func(m *dnsmessage.Message) {
			m.Questions[0].Name = dnsmessage.MustNewName("EXAMPLE.com.")
		}, long, ""},
		{"a bad name", "a..b", func(*dnsmessage.Message) {}, long, "make query"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := answerer(t, tt.change)
			expect(t, run(t, address, model.Check{Type: model.CheckDNS, Query: tt.query, Timeout: tt.timeout}), tt.want)
		})
	}
}

func TestProbeDNSGarbage(t *testing.T) {
	for _, garbage := range []string{"", "x", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		address := serveUDP(t, func([]byte) [][]byte { return [][]byte{[]byte(garbage)} })
		expect(t, run(t, address, model.Check{Type: model.CheckDNS, Timeout: short}), "parse answer")
	}
}
