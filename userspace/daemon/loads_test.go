package daemon

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"fairlead/userspace/view"
)

func TestWeightsFollowWhatBackendsSayOfTheirLoad(t *testing.T) {
	var silent atomic.Bool
	says := func(load string) string {
		return httpServer(t, func(w http.ResponseWriter, _ *http.Request) {
			if !silent.Load() {
				w.Header().Set("X-Load", load)
			}
		})
	}
	r := runAgent(t, fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, load-feedback: {header: X-Load, expiry: 1s}, backends: [{address: %q}, {address: %q}]}]\n",
		site, says("0.2"), says("0.9")))
	r.await("the loaded one gets less", func(v view.View) bool {
		fetch(t, "/")
		b := v.Services[0].Backends
		return b[0].Share == 100 && b[1].Share <= 30 && b[1].Share >= 10
	})
	silent.Store(true)
	r.await("old reports count no more", func(v view.View) bool { return v.Services[0].Backends[1].Share == 100 })
}
