package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead/userspace/config"
	"fairlead/userspace/view"
)

func TestATakenPortIsSaidInOneLine(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var log bytes.Buffer
	dir := t.TempDir()
	r := &running{t: t, opts: Options{Config: filepath.Join(dir, "fairlead.yaml"), RunDir: filepath.Join(dir, "run"), Log: slog.New(slog.NewTextHandler(&log, nil))}}
	r.write(fmt.Sprintf("services: [{name: web, listen: '%s', forward: proxy, backends: [{address: '127.0.0.1:1'}]}]\n", taken.Addr()))
	err = Run(t.Context(), r.opts)
	if want := fmt.Sprintf("service cannot be served: web: another program listens on %s: stop it, or choose another port", taken.Addr()); err == nil || err.Error() != want || log.Len() > 0 {
		t.Errorf("error %v, want %s; log %q", err, want, &log)
	}
}

// httpService is the beginning of a configuration, up to what follows the service.
func httpService(listen, backend string) string {
	return fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, backends: [{address: %q}], health: {type: none}}", listen, backend)
}

func TestAReloadToATakenPortChangesNothing(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	first, _ := page(t, "first")
	second, _ := page(t, "second")
	r := runAgent(t, httpService(site, first)+"]\n")
	for name, conf := range map[string]string{
		"another service": httpService(site, second) + fmt.Sprintf(", {name: more, listen: '%s', forward: proxy, backends: [{address: %q}]}]\n", taken.Addr(), second),
		"another port":    httpService(taken.Addr().String(), second) + "]\n",
	} {
		r.reload(conf)
		v := r.await(name, func(v view.View) bool { return v.ConfigError != "" })
		if want := "another program listens on " + taken.Addr().String(); !strings.Contains(v.ConfigError, want) || strings.Contains(v.ConfigError, "\n") {
			t.Errorf("%s: %q, want one line with %q", name, v.ConfigError, want)
		}
		if _, body := fetch(t, "/"); body != "first /" {
			t.Errorf("%s: %q, want what there was before", name, body)
		}
		r.reload(httpService(site, first) + "]\n")
		r.await("the good one", func(v view.View) bool { return v.ConfigError == "" })
	}
}

// unusedPort returns a port that nobody has at any address, and that the kernel gives
// to nobody. Processes begin their search at different ones.
func unusedPort(t *testing.T) uint16 {
	t.Helper()
	const first, count = 21000, 10000
	for i := range count {
		port := uint16(first + (os.Getpid()+i)%count)
		if l, err := net.Listen("tcp4", netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("every port is taken")
	return 0
}

func TestAReloadToAllAddressesOfAPort(t *testing.T) {
	first, _ := page(t, "first")
	second, _ := page(t, "second")
	port := unusedPort(t)
	own, all := netip.AddrPortFrom(loopback, port).String(), netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()
	r := runAgent(t, httpService(own, first)+"]\n")
	other, err := net.Listen("tcp4", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r.reload(httpService(all, second) + "]\n")
	v := r.await("an answer", func(v view.View) bool { return v.ConfigError != "" || v.Services[0].Listen == all })
	if want := "another program listens on " + all; !strings.Contains(v.ConfigError, want) {
		t.Errorf("another program has the port of another address: %q, want %q", v.ConfigError, want)
	}
	if _, body := fetchAt(t, own, "/"); body != "first /" {
		t.Errorf("%q, want what there was before", body)
	}
	other.Close()
	r.reload(httpService(all, second) + "]\n")
	r.await("all addresses", func(v view.View) bool { return v.ConfigError == "" && v.Services[0].Listen == all })
	if _, body := fetchAt(t, own, "/"); body != "second /" {
		t.Errorf("%q after a change of address", body)
	}
}

func TestATakenPortOfQuickModeIsSaidInOneLine(t *testing.T) {
	taken, err := net.Listen("tcp", ":0") // of both families
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	q := &config.Quick{Port: config.Given{Text: port, From: "--port"}, Servers: []config.Given{{Text: "127.0.0.1:1", From: "--servers"}}, IPv6: true}
	err = Run(t.Context(), Options{Config: "command line", Quick: q, RunDir: t.TempDir()})
	if want := "service cannot be served: quick: another program listens on 0.0.0.0:" + port + ": stop it, or choose another port"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
