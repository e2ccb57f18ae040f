package daemon

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// rungs returns whether the services of a view are on these rungs, and the last
// one has this in its reason.
func rungs(reason string, want ...view.Rung) func(view.View) bool {
	return func(v view.View) bool {
		for i, rung := range want {
			if v.Services[i].Rung != rung {
				return false
			}
		}
		last := v.Services[len(want)-1].Reason
		return strings.Contains(last, reason) && (reason != "" || last == "")
	}
}

func TestPortConflictOfFullNATLeavesTheOthersInXDP(t *testing.T) {
	b := newBench(t, 1)
	b.greetAll()
	nat := strings.Replace(b.service("nat", "tcp", 81), "protocol: tcp", "protocol: tcp, forward: full-nat", 1)
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80), nat)
	b.start()
	b.seen("native XDP", onRung(view.RungNative))
	other := b.Balancer.Listen(t, "tcp", ":20005")
	b.loseXDP()
	const fault = "full-nat: ports 10000-29999: a program of this host listens on tcp port 20005"
	b.seen("XDP but for full NAT", rungs(fault, view.RungNative, view.RungProxy))
	b.opened(80)
	b.opened(81)
	b.signal(syscall.SIGHUP) // who decides on a configuration is told
	b.logged("configuration not taken")
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	b.seen("full NAT again", rungs("", view.RungNative, view.RungNative))
	b.opened(81)
	b.stop()
}

func TestServiceAddressThatCannotBePutLeavesAllInXDP(t *testing.T) {
	b := newBenchOf(t, testenv.RigOptions{Backends: 1, IPv6: true})
	b.greetAll()
	six := strings.NewReplacer(
		"web", "six", vip.String(), "[2001:db8:ff::10]", b.BackendAddrs[0].String(), "["+testenv.Six(b.BackendAddrs[0]).String()+"]",
	).Replace(b.service("web", "tcp", 80))
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80), six)
	b.start()
	b.seen("native XDP", rungs("", view.RungNative, view.RungNative))
	b.Balancer.Sysctl(t, "net.ipv6.conf.lo.disable_ipv6", "1")
	const fault = "run: sysctl -w net.ipv6.conf.lo.disable_ipv6=0"
	b.seen("the fault", rungs(fault, view.RungNative, view.RungNative))
	b.loseXDP()
	b.seen("XDP again", rungs(fault, view.RungNative, view.RungNative))
	ctx, cancel := context.WithTimeout(t.Context(), stage.Patience)
	defer cancel()
	b.opened(80)
	c, err := b.Clients[0].DialContext(ctx, "tcp", "[2001:db8:ff::10]:80")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.Balancer.Sysctl(t, "net.ipv6.conf.lo.disable_ipv6", "0")
	b.seen("no fault", rungs("", view.RungNative, view.RungNative))
	b.stop()
}
