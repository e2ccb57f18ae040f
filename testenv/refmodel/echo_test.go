package refmodel

import (
	"encoding/hex"
	"testing"
)

// A ping and its answer made by hand, with checksums computed by another program.
const (
	ping = "020000000002020000000001080045000025123400001101315fc6336407cb00710a0800395a00070001666169726c65616421"
	pong = "020000000001020000000002080045000025123400004001025fcb00710ac63364070000415a00070001666169726c65616421"
)

func TestPingIsAnswered(t *testing.T) {
	m := newModel()
	pass(t, m, ping, pong, AnswerEcho)
	pass(t, m, ping, ping, PassICMP) // over the limit
}

func TestWhatAsksForAnEcho(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func([]byte) []byte
		want Verdict
	}{
		{"a ping", edit(0), AnswerEcho},
		{"another type", edit(34, 13), PassICMP},
		{"another code", edit(35, 1), PassICMP},
		{"no more than a header", edit(17, 28), AnswerEcho},
		{"not even a header", edit(17, 27), PassICMP},
		{"TTL of 1", edit(22, 1), AnswerEcho},
		{"another destination", edit(33, 11), PassOther},
		{"source of loopback", edit(26, 127), DropSource},
		{"source of the destination", edit(26, vip.AsSlice()...), DropSource},
		{"source without a way back", edit(26, 9), AnswerEcho},
		{"a fragment", edit(20, 0x20), PassFragment},
		{"options", edit(14, 0x46), PassOptions},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newModel()
			frame := test.edit(unhex(t, ping))
			if res := m.Process(frame, len(frame)); res.Verdict != test.want {
				t.Errorf("verdict is %v, want %v", res.Verdict, test.want)
			}
		})
	}
}

func TestPingInLaterBuffersIsAnswered(t *testing.T) {
	frame := unhex(t, ping)
	for linear, want := range map[int]Verdict{42: AnswerEcho, 41: PassICMP, 33: PassOther} {
		res := newModel().Process(frame, linear)
		if res.Verdict != want {
			t.Errorf("verdict is %v with a linear part of %d, want %v", res.Verdict, linear, want)
		}
		if got := hex.EncodeToString(res.Out); want == AnswerEcho && got != pong {
			t.Errorf("answer is %s, want %s", got, pong)
		}
	}
}
