package e2e

import (
	"strings"
	"testing"

	"fairlead/testenv"
)

func TestCurlThroughXDP(t *testing.T) {
	s := attached(t, testenv.RigOptions{})
	account := s.Account()

	got := s.Run(s.Clients[0], tool(t, "curl"), "--silent", "--show-error", "--include", web).OK(t)
	for _, want := range []string{"HTTP/1.1 200 OK", "<h1>backend1</h1>", "You are " + s.ClientAddrs[0].String()} {
		if !strings.Contains(got, want) {
			t.Errorf("curl printed no %q in:\n%s", want, got)
		}
	}
	sums := closeAccount(t, account)
	if sums.XDP == 0 || sums.XDP != sums.Verdicts || sums.Stack != 0 {
		t.Errorf("the frames took other ways than XDP: %+v", sums)
	}
	wantSound(t, s)
}
