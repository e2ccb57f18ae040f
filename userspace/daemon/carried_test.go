package daemon

import (
	"fmt"
	"net/http"
	"testing"

	"fairlead/userspace/view"
)

func TestTheViewTellsWhatProxiesCarry(t *testing.T) {
	r := runAgent(t, fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, backends: [{address: %q}]}]\n",
		site, httpServer(t, func(http.ResponseWriter, *http.Request) {})))
	for range 3 {
		fetch(t, "/")
	}
	r.await("requests are counted", func(v view.View) bool {
		s := v.Services[0]
		return s.Proxied != nil && s.Proxied.Requests == 3 && s.Proxied.Connections > 0 && s.Backends[0].Proxied != nil && s.Backends[0].Proxied.Requests == 3
	})
}
