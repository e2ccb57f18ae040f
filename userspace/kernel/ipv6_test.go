package kernel

import (
	"errors"
	"strings"
	"testing"

	"fairlead/testenv"
	"fairlead/userspace/host"
)

// TestKernelWithoutIPv6 makes one of a kernel that has it; make test-kernels
// boots one.
func TestKernelWithoutIPv6(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 1})
	serve(t, r)
	four, six := stateOf(r), stateOf(r)
	six.Services = append(six.Services, onClientsLink(r, six.Services[0]))
	dir := pins(t)
	var k *Kernel
	r.Balancer.Do(t, func() error {
		if err := testenv.HideIPv6(); err != nil {
			return err
		}
		if host.HasIPv6() {
			t.Error("it has IPv6")
		}
		_, _, err := Attach(t.Context(), six, Options{Dir: dir})
		if !errors.Is(err, ErrNoIPv6) || !strings.Contains(err.Error(), "service six listens on [2001:db8:1:1::80]:80: start the kernel without ipv6.disable=1") {
			t.Errorf("IPv6: %v", err)
		}
		k, _, err = Attach(t.Context(), four, Options{Dir: dir})
		return err
	})
	t.Cleanup(func() { _ = k.Close() })
	if _, err := ask(t, r.Clients[0]); err != nil {
		t.Errorf("IPv4: %v", err)
	}
}
