package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

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

func TestAReloadToATakenPortChangesNothing(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	first, _ := page(t, "first")
	second, _ := page(t, "second")
	service := func(listen, backend string) string {
		return fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, backends: [{address: %q}], health: {type: none}}", listen, backend)
	}
	r := runAgent(t, service(site, first)+"]\n")
	for name, conf := range map[string]string{
		"another service": service(site, second) + fmt.Sprintf(", {name: more, listen: '%s', forward: proxy, backends: [{address: %q}]}]\n", taken.Addr(), second),
		"another port":    service(taken.Addr().String(), second) + "]\n",
	} {
		r.reload(conf)
		v := r.await(name, func(v view.View) bool { return v.ConfigError != "" })
		if want := "another program listens on " + taken.Addr().String(); !strings.Contains(v.ConfigError, want) || strings.Contains(v.ConfigError, "\n") {
			t.Errorf("%s: %q, want one line with %q", name, v.ConfigError, want)
		}
		if _, body := fetch(t, "/"); body != "first /" {
			t.Errorf("%s: %q, want what there was before", name, body)
		}
		r.reload(service(site, first) + "]\n")
		r.await("the good one", func(v view.View) bool { return v.ConfigError == "" })
	}
	// What the agent itself has in the way it gives away.
	port := site[strings.LastIndex(site, ":"):]
	r.reload(service("0.0.0.0"+port, second) + "]\n")
	r.await("all addresses", func(v view.View) bool { return v.ConfigError == "" && v.Services[0].Listen == "0.0.0.0"+port })
	if _, body := fetch(t, "/"); body != "second /" {
		t.Errorf("%q after a change of address", body)
	}
}
