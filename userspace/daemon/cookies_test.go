package daemon

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"fairlead/testenv/stage"
	"fairlead/userspace/kernel"
	"fairlead/userspace/view"
)

const syncookies = "net.ipv4.tcp_syncookies"

// wantCookies waits until the first service has SYN cookies, or has none.
func (b *bench) wantCookies(want bool) {
	b.t.Helper()
	stage.Await(b.t, fmt.Sprintf("SYN cookies to be %t", want), func() error {
		var v *kernel.View
		err := b.Balancer.In(func() (err error) {
			v, err = kernel.Status(b.opts.PinDir)
			return err
		})
		if err == nil && v.Services[0].SYNCookies.Standby != want {
			err = fmt.Errorf("they are %t", !want)
		}
		return err
	})
}

// Who sets the kernel's own cookies back loses those of XDP, but not XDP.
func TestCookiesThatTheKernelTakesNoMore(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	b.Balancer.Sysctl(t, syncookies, "2")
	service := b.service("web", "tcp", 80)
	b.configure(b.interfaces(), "services:\n", strings.Replace(service, "protocol:", "syn-cookies: {above: 100}, protocol:", 1))
	b.start()
	b.wantCookies(true)

	b.Balancer.Sysctl(t, syncookies, "1")
	b.wantCookies(false)
	b.logged("net.ipv4.tcp_syncookies is 1")
	b.loseXDP()
	b.seen("XDP again", onRung(view.RungNative))
	b.wantCookies(false)
	b.signal(syscall.SIGHUP)
	b.seen("the refusal", func(v view.View) bool {
		return strings.Contains(v.ConfigError, syncookies) && onRung(view.RungNative)(v)
	})
	c, _ := b.opened(80)
	c.Close()

	b.Balancer.Sysctl(t, syncookies, "2")
	b.wantCookies(true)
	b.stop()
}
