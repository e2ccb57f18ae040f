package host

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"fairlead/testenv"
	"fairlead/userspace/model"
)

func TestParseRanges(t *testing.T) {
	got, err := parseRanges("1-5,7,60000-65535")
	want := []PortRange{{1, 5}, {7, 7}, {60000, 65535}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("range %d is %v, want %v", i, got[i], want[i])
		}
	}
	for _, bad := range []string{"x", "5-1", "1-", "70000", "1,,2"} {
		if got, err := parseRanges(bad); err == nil {
			t.Errorf("%q gives %v, want an error", bad, got)
		}
	}
}

func TestCovers(t *testing.T) {
	ranges := []PortRange{{10, 20}, {21, 30}, {65535, 65535}}
	for r, want := range map[PortRange]bool{{10, 30}: true, {9, 10}: false, {30, 31}: false, {65535, 65535}: true, {15, 15}: true} {
		if got := covers(ranges, r); got != want {
			t.Errorf("%v: %v, want %v", r, got, want)
		}
	}
}

func TestSourcePorts(t *testing.T) {
	testenv.RequireRoot(t)
	h := testenv.NewHost(t, "ports")
	here := netip.MustParseAddr("127.0.0.1")
	h.Do(t, func() error {
		for file, text := range map[string]string{localPorts: "32768 60999", reservedPorts: "40000-40999"} {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				return err
			}
		}
		l, err := net.Listen("tcp4", "127.0.0.1:20005")
		if err != nil {
			return err
		}
		defer l.Close()
		for r, want := range map[PortRange]string{
			{10000, 20004}: "",
			{40000, 40999}: "",
			{61000, 65535}: "",
			{20000, 20010}: "listens on tcp port 20005",
			{20006, 20010}: "",
			{40500, 41500}: "ip_local_reserved_ports=40000-40999,40500-41500)",
			{30000, 40000}: "gives ports 32768-40000",
		} {
			got, err := EphemeralFault(r)
			sockets, serr := Sockets()
			if err := errors.Join(err, serr); err != nil {
				return err
			}
			got += ListenFault(r, here, model.TCP, sockets)
			if fault := ListenFault(r, here, model.UDP, sockets); fault != "" {
				t.Errorf("%v of UDP: %q", r, fault)
			}
			if (want == "") != (got == "") || !strings.Contains(got, want) {
				t.Errorf("%v: %q, want %q", r, got, want)
			}
		}
		return nil
	})
}
