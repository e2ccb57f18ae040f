package datapath

import "testing"

func TestCookiesNeedARateAndAStandby(t *testing.T) {
	r := empty(2)
	for _, test := range []struct {
		above   int
		standby bool
		want    *SYNCookiesView
	}{
		{0, false, nil},
		{0, true, nil},
		{5, false, &SYNCookiesView{Above: 5}},
		{5, true, &SYNCookiesView{Above: 5, Standby: true}},
		{7, true, &SYNCookiesView{Above: 7, Standby: true}},
		{0, true, nil},
	} {
		s := service("web", 80, 1)
		s.CookieAbove, s.Standby = test.above, test.standby
		execute(t, r, mustPlan(t, r, &Want{Services: []Service{s}}))
		row := &r.services[0]
		got := r.serviceView(row, "web", Counters{}).SYNCookies
		if (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
			t.Errorf("above %d, standby %t: the view has %+v, want %+v", test.above, test.standby, got, test.want)
		}
		if has := row.Flags&serviceCookies != 0; has != (test.above > 0 && test.standby) {
			t.Errorf("above %d, standby %t: flags are %#x", test.above, test.standby, row.Flags)
		}
	}
}
