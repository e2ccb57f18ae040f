package daemon

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"fairlead/userspace/view"
)

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
