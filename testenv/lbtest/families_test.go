package lbtest

import (
	"encoding/hex"
	"testing"

	"fairlead/loader"
)

// TestIPv6IsHandedOver runs the program for IPv4, without and with that for IPv6
// where it looks for it.
func TestIPv6IsHandedOver(t *testing.T) {
	both := family{load: loadLb, program: lbProgFairleadBoth}
	four, six := &world{tb: t, Datapath: both.datapath(t, nil, 0)}, newWorld6(t, 0)
	four.reset()
	six.reset()
	hello := segment6(client6, web6, syn)
	twice := tag(tag(hello, 0), 0xa8)
	runs := func(frame []byte, action uint32, by *world, want loader.Verdict) {
		t.Helper()
		before := [2]uint64{verdictSum(four), verdictSum(six)}
		counted := by.sums(loader.LBMapVerdicts)[want]
		got, out, _, err := four.Run(frame)
		four.must(err)
		if got != action || by.sums(loader.LBMapVerdicts)[want] != counted+1 {
			t.Errorf("action %d, want %d and one more %v", got, action, want)
		}
		if sum := verdictSum(four) + verdictSum(six); sum != before[0]+before[1]+1 {
			t.Errorf("%d verdicts for one packet", sum-before[0]-before[1])
		}
		if want == loader.LBVerdictFORWARD_REDIRECT && by == six {
			if diff := hex.EncodeToString(out); diff != hex.EncodeToString(left6(segment6(client6, webBack6, syn))) {
				t.Errorf("out goes %s", diff)
			}
		}
	}
	const other, vlan = loader.LBVerdictPASS_OTHER, loader.LBVerdictPASS_VLAN
	off := func(c *loader.Control) { c.Mode = 0 }
	runs(hello, Pass, four, other)
	runs(twice, Pass, four, other)
	four.control(off)
	runs(hello, Pass, four, loader.LBVerdictPASS_OFF)
	four.control(func(*loader.Control) {})

	four.put(lbMapFamilies, uint32(0), six.Program())
	runs(hello, Redirect, six, loader.LBVerdictFORWARD_REDIRECT)
	runs(tag(hello, 0), Pass, six, vlan)
	runs(twice, Pass, six, vlan)
	runs(tag(twice, 0), Pass, four, other)
	runs(hello[:14], Pass, six, other)
	runs(segment(client, web, syn), Redirect, four, loader.LBVerdictFORWARD_REDIRECT)
	six.control(off)
	runs(hello, Pass, six, loader.LBVerdictPASS_OFF)

	four.must(four.Maps[lbMapFamilies].Delete(uint32(0)))
	runs(hello, Pass, four, other)
}
