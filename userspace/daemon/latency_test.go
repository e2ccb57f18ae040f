package daemon

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/userspace/view"
)

func TestAgentTellsLatency(t *testing.T) {
	const delay = 20 * time.Millisecond
	slow := httpServer(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(delay)
		fmt.Fprint(w, "done")
	})
	idle, _ := page(t, "idle")
	plain, echoes, addr := testenv.FreeAddress(t), echo(t).Addr().String(), testenv.FreeAddress(t)
	conf := func(more string) string {
		return fmt.Sprintf("agent: {metrics: '%s'}\nservices:\n  - {name: web, listen: '%s', forward: http, backends: [{address: %q}%s], health: {type: none}}\n"+
			"  - {name: plain, listen: '%s', forward: proxy, backends: [{address: %q}]}\n", addr, site, slow, more, plain, echoes)
	}
	r := runAgent(t, conf(""))
	for range 4 {
		fetch(t, "/")
	}
	for range 3 {
		c, err := net.Dial("tcp", plain)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	r.reload(conf(fmt.Sprintf(", {address: %q}", idle))) // which forgets nothing
	r.await("latencies", func(v view.View) bool {
		web, tcp := v.Services[0].Backends, v.Services[1].Backends[0].Latency
		return len(web) == 2 && web[1].Latency == nil && tcp != nil && tcp.Count == 3 && tcp.Median > 0 &&
			web[0].Latency.Count == 4 && web[0].Latency.Median >= 0.985*delay.Seconds() && web[0].Latency.P99 >= web[0].Latency.Median
	})
	awaitMetrics(t, addr,
		fmt.Sprintf(`fairlead_backend_http_latency_seconds_count{backend=%q,pool="",service="web"} 4`, slow),
		fmt.Sprintf(`fairlead_backend_http_latency_seconds{backend=%q,pool="",service="web",quantile="0.95"} NaN`, idle),
		fmt.Sprintf(`fairlead_backend_connect_latency_seconds_count{backend=%q,pool="",service="plain"} 3`, echoes),
		fmt.Sprintf(`fairlead_backend_connect_duration_seconds_count{backend=%q,pool="",service="plain"} 3`, echoes),
	)
}
