package daemon

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"fairlead/testenv"
	"fairlead/userspace/kernel"
)

func TestServicesOfIPv6WithoutIPv6(t *testing.T) {
	b := newBench(t, 1)
	b.opts.Log = slog.New(slog.DiscardHandler)
	web := strings.NewReplacer(vip.String(), "[2001:db8:ff::10]", b.BackendAddrs[0].String()+":", "[2001:db8:2:1::2]:").Replace(b.service("web", "tcp", 80))
	for _, mode := range []string{"auto", "off"} {
		b.configure(b.interfaces(), "xdp: '", mode, "'\nservices:\n", web)
		err := b.Balancer.In(func() error {
			if err := testenv.HideIPv6(); err != nil {
				return err
			}
			return Run(t.Context(), b.opts)
		})
		if !errors.Is(err, kernel.ErrNoIPv6) {
			t.Errorf("xdp: %s: %v", mode, err)
		}
	}
	b.wantNothing()
}
